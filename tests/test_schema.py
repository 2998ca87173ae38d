"""The fingerprint of a type: another one after any change, the same one everywhere."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import json
import operator
import os
import random
import subprocess
import sys
import typing as t
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, create_model
from pydantic.json_schema import SkipJsonSchema, WithJsonSchema

from instructor_cache.description import describe
from instructor_cache.schema import fingerprint, model_fingerprint


def one(annotation: Any, *default: Any, **options: Any) -> type[BaseModel]:
    """A model with one field, always of one name."""
    return create_model("Answer", x=(annotation, *(default or (...,))), **options)


def colours(*names: str, **values: Any) -> Any:
    return enum.Enum("Colour", values or {name: n for n, name in enumerate(names)}, module="m")


def private(**attributes: Any) -> Any:
    return type("Answer", (BaseModel,), {"__annotations__": {}, "__module__": "m", **attributes})


def upper(text: str) -> str:
    return text.upper()


def lower(text: str) -> str:
    return text.lower()


def made_here(name: str) -> Any:
    def one(text: str) -> str:
        return text

    def other(text: str) -> str:
        return text

    return one if name == "one" else other


def at_least(least: Any) -> Any:
    """A validator that a factory made."""

    def check(x: Any) -> Any:
        assert x >= least
        return x

    return check


def checked(least: Any, kind: str = "field") -> Any:
    """A model or dataclass whose validator a factory made."""

    def check(cls: Any, x: Any, given: Any = least) -> Any:
        return at_least(given)(x)

    if kind == "model":
        validate: Any = pydantic.model_validator(mode="before")(classmethod(check))
    elif kind == "default":
        validate = pydantic.field_validator("x")(classmethod(check))
    else:
        validate = pydantic.field_validator("x")(at_least(least))
    if kind == "dataclass":
        names = {"check": validate, "__annotations__": {"x": int}, "__module__": "m"}
        return pydantic.dataclasses.dataclass(type("Answer", (), names))
    return create_model("Answer", x=(int, ...), __validators__={"check": validate})


class Service:
    def __init__(self, client: Any) -> None:
        self.client = client

    def check(self, x: Any, scale: Any = abs) -> Any:
        return scale(x)


class Keyed(Service):
    def __cache_key__(self) -> Any:
        return self.client


def given(validator: Any) -> type[BaseModel]:
    """A model that was given a function as its validator."""
    validators = {"check": pydantic.field_validator("x")(validator)}
    return create_model("Answer", x=(str, ...), __validators__=validators)


Before, After = Any, Any
CHANGES: dict[str, tuple[Before, After]] = {
    "list, tuple": (one(list[int]), one(tuple[int, ...])),
    "list, sequence": (one(list[int]), one(Sequence[int])),
    "list, deque": (one(list[int]), one(collections.deque[int])),
    "set, frozenset": (one(set[int]), one(frozenset[int])),
    "dict, mapping": (one(dict[str, int]), one(Mapping[str, int])),
    "dict, ordered": (one(dict[str, int]), one(collections.OrderedDict[str, int])),
    "hidden type": (one(SkipJsonSchema[str]), one(SkipJsonSchema[int])),
    "hidden default": (one(SkipJsonSchema[int], 1), one(SkipJsonSchema[int], 2)),
    "time zone": (one(pydantic.AwareDatetime), one(pydantic.NaiveDatetime)),
    "date bound": (
        one(Annotated[dt.date, Field(ge=dt.date(2024, 1, 1))]),
        one(Annotated[dt.date, Field(ge=dt.date(2024, 1, 2))]),
    ),
    "decimals": (
        one(Annotated[Decimal, Field(max_digits=3)]),
        one(Annotated[Decimal, Field(max_digits=4)]),
    ),
    "finite": (one(float), one(pydantic.FiniteFloat)),
    "strict": (one(int), one(pydantic.StrictInt)),
    "upper case": (one(str), one(Annotated[str, pydantic.StringConstraints(to_upper=True)])),
    "configuration": (one(colours("A")), one(colours("A"), __config__={"use_enum_values": True})),
    "private": (private(), private(_b=pydantic.PrivateAttr(1))),
    "private default": (
        private(_b=pydantic.PrivateAttr(1)),
        private(_b=pydantic.PrivateAttr(default_factory=list)),
    ),
    "enum names": (one(colours(RED=1, BLUE=2)), one(colours(BLUE=1, RED=2))),
    "enum values": (one(colours(RED=1)), one(colours(RED="1"))),
    "factory": (one(Any, Field(default_factory=list)), one(Any, Field(default_factory=dict))),
    "default": (one(int, 1), one(int, True)),
    "url": (one(pydantic.AnyUrl), one(pydantic.FileUrl)),
    "json schema": (one(int), one(Annotated[int, WithJsonSchema({"type": "number"})])),
    "validator": (
        one(Annotated[str, PlainValidator(upper)]),
        one(Annotated[str, PlainValidator(lower)]),
    ),
    "other validator": (
        one(Annotated[str, BeforeValidator(upper)]),
        one(Annotated[str, PlainValidator(upper)]),
    ),
    "validator of a factory": (
        one(Annotated[int, AfterValidator(at_least(1))]),
        one(Annotated[int, AfterValidator(at_least(2))]),
    ),
    "factory in a factory": (
        one(Annotated[int, AfterValidator(at_least({"by": [at_least(1)]}))]),
        one(Annotated[int, AfterValidator(at_least({"by": [at_least(2)]}))]),
    ),
    "validator of an object": (
        one(Annotated[int, AfterValidator(Keyed(1).check), AfterValidator(Keyed(1).check)]),
        one(Annotated[int, AfterValidator(Keyed(1).check), AfterValidator(Keyed(2).check)]),
    ),
    "default factory": (
        one(int, Field(default_factory=lambda x=1: x)),
        one(int, Field(default_factory=lambda x=2: x)),
    ),
    "field validator": (checked(1), checked(2)),
    "field validator's default": (checked(1, "default"), checked(2, "default")),
    "model validator": (checked(1, "model"), checked(2, "model")),
    "dataclass's validator": (checked(1, "dataclass"), checked(2, "dataclass")),
    "function as validator": (given(upper), given(lower)),
    "local function as validator": (given(made_here("one")), given(made_here("other"))),
    "bound function as validator": (
        given(functools.partial(operator.concat, "a")),
        given(functools.partial(operator.concat, "b")),
    ),
    "callable": (one(Callable[[int], str]), one(Callable[[str], str])),
    "literal": (one(Literal["a"]), one(Literal["a", "b"])),
    "literal type": (one(Literal[1]), one(Literal[True])),
    "optional": (one(int), one(int | None)),
    "alias": (one(int), one(int, Field(alias="y"))),
    "description": (one(int), one(int, Field(description="how many"))),
    "docstring": (one(int), one(int, __doc__="A prompt.")),
    "nested": (one(one(int)), one(one(str))),
    "in a list": (list[one(int)], list[one(str)]),  # type: ignore[misc]
    "examples": (one(int), one(int, Field(examples=[1]))),
    "extra": (one(int), one(int, __config__={"extra": "allow"})),
    "bound function": (
        one(Annotated[int, PlainValidator(functools.partial(max, 1))]),
        one(Annotated[int, PlainValidator(functools.partial(max, 2))]),
    ),
    "container": (list[one(int)], tuple[one(int), ...]),  # type: ignore[misc]
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=list(CHANGES))
def test_a_change_changes_the_fingerprint(before: Any, after: Any):
    """Whatever an answer's value, form or prompt depends on is in the fingerprint."""
    assert fingerprint(before) != fingerprint(after)


def unwrapped(validate: Any) -> Any:
    """A decorator that does not tell what it wraps."""
    return lambda cls, x: validate.__func__(cls, x)


def with_private_validator() -> Any:
    class Answer(BaseModel):
        x: int

        @pydantic.field_validator("x")
        @classmethod
        def __check(cls, x: int) -> int:
            return x

    return Answer


def with_wrapped_validator() -> Any:
    class Answer(BaseModel):
        x: int

        @pydantic.field_validator("x")
        @classmethod
        @unwrapped
        @classmethod
        def check(cls, x: int) -> int:
            return x

    return Answer


def with_root_validator() -> Any:
    class Answer(BaseModel):
        x: int

        @pydantic.root_validator(skip_on_failure=True)  # pyright: ignore[reportDeprecated]
        def check(cls, values: Any) -> Any:
            return values

    return Answer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "captured"),
    [
        (with_private_validator, []),
        (with_wrapped_validator, [["check", "validate"]]),
        (with_root_validator, [["check", "validator"]]),
    ],
)
def test_validators_of_the_body_go_by_name(make: Any, captured: Any):
    """Whatever wraps them: what was captured counts as before, not where the wrapper was made."""
    described = describe(make())[1]
    assert [[name, held[0][0]] for name, held in described[6:]] == captured


def test_an_equal_type_has_an_equal_fingerprint():
    """Two classes that were written alike, of one name, have one fingerprint."""
    for make in (
        lambda: one(Annotated[int, Field(ge=1)], 3),
        lambda: one(colours("A", "B")),
        lambda: private(_b=pydantic.PrivateAttr(default_factory=list)),
        lambda: one(list[one(int | None, None)]),  # type: ignore[misc]
        lambda: checked([1, {"a": (Decimal(1), at_least(2))}]),
        lambda: checked(1, "model"),
        lambda: checked(1, "dataclass"),
        lambda: one(Annotated[int, AfterValidator(at_least(Opaque(random.random())))]),
        lambda: one(Annotated[int, AfterValidator(Service(random.random()).check)]),
    ):
        assert fingerprint(make()) == fingerprint(make())


class Early(BaseModel):
    inner: Late  # noqa: F821


def test_forward_references_are_resolved_first(monkeypatch: pytest.MonkeyPatch):
    """A model class that was not complete yet gets another fingerprint when it is."""
    before = model_fingerprint(Early)
    monkeypatch.setitem(globals(), "Late", create_model("Late", x=(int, ...)))
    assert model_fingerprint(Early) != before
    assert model_fingerprint(Early) == model_fingerprint(Early) == fingerprint(Early)


SHARED = """
import attrs, dataclasses, json, typing
from pydantic import AfterValidator, BaseModel, Field, field_validator
from instructor_cache.schema import fingerprint

class Inner(BaseModel):
    tags: set[str] = {"a", "b", "c"}

@dataclasses.dataclass
class Plain:
    tags: frozenset[str] = frozenset({"x", "y", "z"})

Number = typing.NewType("Number", int)

@attrs.define
class Attrs:
    x: typing.Annotated[int, AfterValidator(lambda x: x)] = 1

def checked(least):
    itself = []

    class Checked(BaseModel):
        x: typing.Annotated[int, AfterValidator(lambda x: [x for x in (x,) if least][0])]

        @field_validator("x")
        @classmethod
        def check(cls, x):
            return super().check and Checked and itself and least

    itself += [Checked, itself]
    return Checked

class Outer(BaseModel, arbitrary_types_allowed=True):
    made: checked(frozenset({"a", "b", "c"})) = None
    inner: Inner = Inner()
    several: list[set[str]] = [{"a", "b", "c"}]
    named: dict[str, set[str]] = {"k": {"a", "b", "c"}}
    plain: Plain = Plain()
    shown: typing.Any = Field(None, examples=[{"a", "b", "c"}])
    lit: typing.Literal["p", "q"] = "p"
    attrs: Attrs | None = None
    number: Number = 1

print(fingerprint(Outer))
"""


def test_the_fingerprint_is_the_same_in_every_process():
    """Sets in defaults and examples, however deep, do not bring a process's hash seed into it."""

    def found(seed: int) -> str:
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", SHARED]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(found, range(4)))) == 1


def test_any_goes_by_its_name():
    """Before Python 3.11 it was no class: what a validator has captured is described alike."""
    assert "'typing.Any'" in str(describe(Annotated[int, AfterValidator(at_least(Any))]))


class Opaque:
    """What has no form, as clients have none; of a validator's closure its class counts."""

    def __init__(self, value: float = 1) -> None:
        self.value = value


class Hook:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic.TypeAdapter(Any).core_schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        raise NotImplementedError


class Node(BaseModel):
    children: list[Node] = []
    parent: Node | None = None


class Point(t.NamedTuple):
    x: int = 0


class Row(t.TypedDict, total=False):
    x: int


@dataclasses.dataclass
class Plain:
    x: int = 0
    y: list[int] = dataclasses.field(default_factory=list)


@pydantic.dataclasses.dataclass
class Rich:
    x: int = Field(1, ge=0)


def broken(schema: Any) -> None:
    raise KeyError


@pytest.mark.parametrize(
    "annotation",
    [
        *(Node, Point, Row, Plain, Rich, Hook, Opaque, BaseModel, Any, None, int, Ellipsis),
        *(t.Optional[int], t.TypeVar("T", bound=int), t.NewType("Id", int), Iterable[int]),
        one(enum.Enum("Odd", {"A": object()}, module="m")),
        one(Any, Opaque(), __config__={"arbitrary_types_allowed": True}),
        one(int, __config__={"json_schema_extra": broken}),
        one(Annotated[int, ["meta"], {"k": [Opaque()]}, lambda x: x]),
        one(str, Field(default_factory=str.lower)),
    ],
    ids=str,
)
def test_every_type_has_a_fingerprint(annotation: Any):
    """Nothing that a type holds makes the description fail, and it is the same a second time."""
    assert describe(annotation) == describe(annotation)
    assert json.dumps(describe(annotation))
    assert len(fingerprint(annotation)) == 16


def test_a_models_fingerprint_is_made_once():
    """It is kept as long as the class is."""
    assert model_fingerprint(Node) == model_fingerprint(Node) == fingerprint(Node)
