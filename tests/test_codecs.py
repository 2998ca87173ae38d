"""What goes in comes out: exactly, without any of the user's code, or not at all."""

from __future__ import annotations

import functools
import inspect
import io
import ipaddress
import json
import subprocess
import sys
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import InitVar, dataclass
from dataclasses import field as dataclass_field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import cached_property, partial
from typing import Annotated, Any, Generic, NamedTuple, Optional, TypeVar, Union, cast
from uuid import UUID, uuid4

import pytest
from corpus import SHAPES, Hidden, Shape, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ImportString,
    PlainSerializer,
    PrivateAttr,
    Secret,
    SecretBytes,
    SecretStr,
    Tag,
    ValidationInfo,
    WrapValidator,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import core_schema
from sameness import same

from instructor_cache.codecs import RawCompletion, codec_for, lint
from instructor_cache.errors import Unstorable

REFUSED = {
    "factory_of_the_user",
    "function",
    "generator",
    "secret_bytes",
    "secret_date",
    "secret_str",
    "stranger_in_any",
}

by_name = pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])


def round_trip(annotation: Any, result: Any, **options: Any) -> Any:
    codec = codec_for(annotation, **options)
    return codec.decode(codec.encode(result))


# --- exactness ---


@by_name
def test_corpus_comes_back_exactly(shape: Shape) -> None:
    """Every shape comes back the same, but for the few that are known to be refused."""
    codec = codec_for(shape.annotation)
    for value in shape.values:
        if shape.name in REFUSED:
            with pytest.raises(Unstorable):
                codec.encode(value)
        else:
            assert same(codec.decode(codec.encode(value)), value)


def test_corpus_is_large_and_hardly_refused() -> None:
    """There are 150 shapes and more, and at least 94 % of them can be stored."""
    assert len(SHAPES) >= 150
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    assert {shape.name for shape in SHAPES} >= REFUSED
    assert 1 - len(REFUSED) / len(SHAPES) >= 0.94


@by_name
def test_results_are_left_as_they_are(shape: Shape) -> None:
    """Encoding and settling change nothing about the result."""
    codec = codec_for(shape.annotation)
    for value in shape.values:
        if shape.name not in REFUSED and same(value, value):
            twin = codec.decode(codec.encode(value))
            assert codec.settle(value) is value
            assert same(value, twin)


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False], ids=repr)
def test_falsy_results_are_results(value: Any) -> None:
    """None, zero and empty containers come back as what they were."""
    assert same(round_trip(type(value) if value is not None else None, value), value)


def test_decoded_results_are_independent() -> None:
    """Two hits share nothing that can be changed."""
    codec = codec_for(dict[str, list[User]])
    payload = codec.encode({"a": [User(name="x", age=1)]})
    first, second = codec.decode(payload), codec.decode(payload)
    first["a"][0].name = "changed"
    assert second["a"][0].name == "x"


def test_same_result_same_bytes() -> None:
    """A payload depends on nothing but the result."""
    assert codec_for(User).encode(User(name="x", age=1)) == codec_for(User).encode(
        User(name="x", age=1)
    )


# --- the common case ---


def test_common_case_is_plain_json_by_field_name() -> None:
    """A result of ordinary fields is stored as the JSON one would write by hand."""

    class Reply(BaseModel):
        full_name: str = Field(alias="fullName")
        user: User
        when: datetime

    reply = Reply(fullName="x", user=User(name="é", age=1), when=datetime(2024, 1, 1))
    payload = codec_for(Reply).encode(reply)
    if not payload.startswith(b"!"):  # before Pydantic 2.13 nested models are tagged
        expected = {"full_name": "x", "user": {"name": "é", "age": 1}}
        assert json.loads(payload) == expected | {"when": "2024-01-01T00:00:00"}
        assert "é" in payload.decode()


def test_flat_model_is_plain_on_every_version() -> None:
    """A model of simple fields has no wrapper anywhere, whatever the version of Pydantic."""
    assert codec_for(User).encode(User(name="x", age=1)) == b'{"name":"x","age":1}'


# --- no user code ---

RUNS: Counter[str] = Counter()


def count(name: str, value: Any = None) -> Any:
    RUNS[name] += 1
    return value


class Inner(BaseModel):
    n: int = Field(default_factory=lambda: count("default_factory", 1))

    @field_validator("n")
    @classmethod
    def check(cls, value: int) -> int:
        return count("nested field_validator", value)

    @model_validator(mode="after")
    def whole(self) -> Inner:
        return count("nested model_validator", self)


@pydantic_dataclass
class Checked:
    n: int
    start: InitVar[int] = 0

    def __post_init__(self, start: int) -> None:
        count("__post_init__")

    @field_validator("n")
    @classmethod
    def check(cls, value: int) -> int:
        return count("dataclass validator", value)


@dataclass
class Bare:
    n: int
    tags: list[str] = dataclass_field(default_factory=lambda: count("dataclass factory", []))

    def __post_init__(self) -> None:
        count("bare __post_init__")


class Custom:
    def __init__(self, n: int) -> None:
        self.n = count("custom __init__", n)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: count("custom validator", value)
        )


class Kind(BaseModel):
    kind: str

    def __new__(cls, *args: Any, **kw: Any) -> Kind:
        count("__new__")
        return super().__new__(cls)


class Everything(BaseModel):
    model_config = ConfigDict(validate_default=True, validate_assignment=True, extra="allow")

    before: Annotated[int, BeforeValidator(lambda v: count("before", v))]
    after: Annotated[int, AfterValidator(lambda v: count("after", v))]
    wrap: Annotated[int, WrapValidator(lambda v, handler: count("wrap", handler(v)))]
    out: Annotated[int, PlainSerializer(lambda v: count("serializer", v))]
    unset: int = Field(default_factory=lambda: count("default_factory", 3))
    inner: Inner
    many: dict[str, list[Inner]]
    checked: Checked
    bare: Bare
    pet: Annotated[
        Annotated[User, Tag("u")] | Annotated[Inner, Tag("i")],
        Discriminator(lambda v: count("discriminator", "i" if isinstance(v, Inner) else "u")),
    ]

    @field_validator("before", "unset")
    @classmethod
    def check(cls, value: int) -> int:
        return count("field_validator", value)

    @field_serializer("after")
    def show(self, value: int) -> int:
        return count("field_serializer", value)

    @model_validator(mode="before")
    @classmethod
    def ahead(cls, data: Any) -> Any:
        return count("model before", data)

    @model_validator(mode="wrap")
    @classmethod
    def around(cls, data: Any, handler: Any) -> Any:
        return count("model wrap", handler(data))

    @model_validator(mode="after")
    def behind(self) -> Everything:
        return count("model after", self)

    @model_serializer(mode="wrap")
    def whole(self, handler: Any) -> Any:
        return count("model_serializer", handler(self))

    def model_post_init(self, context: Any) -> None:
        count("model_post_init")
        super().model_post_init(context)

    def __init__(self, **data: Any) -> None:
        count("__init__")
        super().__init__(**data)


class EverythingPrivate(Everything):
    """With private attributes there is no plain form, so this one is always tagged."""

    _private: int = PrivateAttr(default_factory=lambda: count("private factory", 1))


def everything(cls: type[Everything]) -> Everything:
    return cls(
        before=1,
        after=2,
        wrap=3,
        out=4,
        unset=5,
        inner=Inner(n=1),
        many={"a": [Inner(n=2)]},
        checked=Checked(1, 2),
        bare=Bare(1),
        pet=Inner(n=3),
    )


CODED = {
    "everything": lambda: (Everything, everything(Everything)),
    "everything private": lambda: (EverythingPrivate, everything(EverythingPrivate)),
    "everything in a base field": lambda: (list[Everything], [everything(EverythingPrivate)]),
    "nested": lambda: (Inner, Inner(n=1)),
    "union": lambda: (Inner | User, Inner(n=1)),
    "optional": lambda: (dict[str, Inner | None], {"a": Inner(n=2), "b": None}),
    "dataclass": lambda: (Checked, Checked(1, 2)),
    "bare dataclass": lambda: (list[Bare], [Bare(1)]),
    "custom type": lambda: (list[Custom], [Custom(1)]),
    "own __new__": lambda: (Kind, Kind(kind="x")),
    "unset default": lambda: (Inner, Inner()),
}


@pytest.mark.parametrize("make", CODED.values(), ids=CODED.keys())
def test_decoding_runs_no_user_code(make: Any) -> None:
    """No validator, serializer, factory, initialiser or hook of the user runs on a hit."""
    annotation, result = make()
    codec = codec_for(annotation)
    payload = codec.encode(result)
    RUNS.clear()
    assert same(codec.decode(payload), result)
    assert not RUNS


@pytest.mark.parametrize("make", CODED.values(), ids=CODED.keys())
def test_encoding_runs_no_validator(make: Any) -> None:
    """Verifying a store does not call a validator either: some of them cost money."""
    annotation, result = make()
    codec = codec_for(annotation)
    RUNS.clear()
    codec.encode(result)
    assert not RUNS


def test_public_path_is_for_types_alone() -> None:
    """A type with a schema of its own goes its own way only where no validator would run."""

    class Reply(BaseModel):
        it: Hidden

    class Checked(Reply):
        @field_validator("it", mode="before")
        @classmethod
        def check(cls, value: Any) -> Any:
            return count("validator", value)

    assert codec_for(Reply).encode(Reply(it=Hidden(5))) == b'?{"it":5}'
    with pytest.raises(Unstorable):
        codec_for(Checked).encode(Checked(it=Hidden(5)))


def test_context_is_not_needed() -> None:
    """A validator that wants a context does not get in the way of a hit."""

    class Quote(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def cited(cls, value: str, info: ValidationInfo) -> str:
            assert info.context, "a context is wanted"
            return value

    quote = Quote.model_validate({"text": "a"}, context={"source": "abc"})
    assert same(round_trip(Quote, quote), quote)


# --- what is refused ---


class Login(BaseModel):
    user: str
    password: Any


@pytest.mark.parametrize(
    "secret",
    [SecretStr("s"), SecretBytes(b"s"), Secret[int](5), SecretStr("**********"), [SecretStr("x")]],
    ids=repr,
)
def test_secrets_are_refused(secret: Any) -> None:
    """A secret anywhere in the result keeps it out of an unencrypted store, and says so."""
    with pytest.raises(Unstorable, match="no cache does yet; leave the secret out") as caught:
        codec_for(Login).encode(Login(user="x", password=secret))
    assert "Login.password" in str(caught.value)


class Vault(BaseModel):
    text: SecretStr
    data: SecretBytes
    number: Secret[int]


def test_secrets_come_back_when_allowed() -> None:
    """With `secrets=True`, which is for encrypted entries, secrets are exact."""
    vault = Vault(text=SecretStr("s"), data=SecretBytes(b"\xff"), number=Secret[int](5))
    assert same(round_trip(Vault, vault, secrets=True), vault)
    with pytest.raises(Unstorable):
        codec_for(Vault).encode(vault)


class Stranger:
    def __init__(self) -> None:
        self.n = 1


def test_refusal_names_the_path_and_a_remedy() -> None:
    """The error says where, what was found, and what to do about it."""

    class Outer(BaseModel):
        inner: list[Login]

    result = Outer(inner=[Login(user="a", password=1), Login(user="b", password=Stranger())])
    with pytest.raises(Unstorable) as caught:
        codec_for(Outer).encode(result)
    text = str(caught.value)
    assert "inner[1].password" in text and "Stranger" in text and "name it" in text


@pytest.mark.parametrize(
    "value",
    [object(), Stranger(), lambda: 1, iter([1]), open, sys, type("T", (), {})(), Stranger, 1j.real],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_stored_exactly_or_refused(value: Any) -> None:
    """Whatever `Any` holds, the outcome is the same value or Unstorable."""
    login = Login.model_construct(user="x", password=value)
    try:
        found = round_trip(Login, login)
    except Unstorable:
        return
    assert same(found, login)


def test_refusal_does_not_tell_what_the_result_holds() -> None:
    """Values and keys are data, and data stays out of error texts."""

    class Raiser:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("private matters")

    for value in ({"private": Stranger()}, {("private",): {Stranger()}}, Raiser(), {"private"}):
        with pytest.raises(Unstorable) as caught:
            codec_for(list[Login]).encode([Login.model_construct(user=1, password=[value, open])])
        assert "private" not in str(caught.value)


def test_cycles_are_refused() -> None:
    """A value that holds itself is refused, not followed for ever."""
    items: list[Any] = []
    items.append(items)
    with pytest.raises(Unstorable):
        codec_for(Login).encode(Login.model_construct(user="x", password=items))
    login = Login(user="x", password=1)
    login.password = login
    with pytest.raises(Unstorable):
        codec_for(Login).encode(login)
    assert codec_for(Login).settle(login) is login


def test_deep_values_are_exact_or_refused() -> None:
    """Nesting deeper than Python can follow ends in Unstorable."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    login = Login.model_construct(user="x", password=deep)
    with pytest.raises(Unstorable):
        codec_for(Login).encode(login)
    assert codec_for(Login).settle(login) is login


def test_result_that_is_not_of_the_annotation_is_refused() -> None:
    """What is not of the annotated type would be refused on a hit, so it is not stored."""
    for annotation, result in ((User, 5), (list[User], (1,)), (User, None), (User, Stranger())):
        with pytest.raises(Unstorable):
            codec_for(annotation).encode(result)


class Hostile(BaseModel):
    n: Any

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")


def test_hostile_objects_raise_nothing_else() -> None:
    """Whatever a user's methods raise, encode raises Unstorable or answers bytes."""

    class Raiser:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("no looking")

        def __hash__(self) -> int:
            raise RuntimeError("no hashing")

    assert same(round_trip(Hostile, Hostile(n=1)), Hostile(n=1))
    with pytest.raises(Unstorable):
        codec_for(Hostile).encode(Hostile(n=Raiser()))


# --- payloads that are none ---


GARBAGE = [
    b"",
    b"!",
    b"\n",
    b"!\n",
    b"{}",
    b"null",
    b"!null",
    b"\xff\xfe",
    b"!5",
    b"![]",
    b'!{"model":["builtins:object",{},[],null,null]}',
    b'!{"object":["builtins:object",{}]}',
    b'!{"object":["subprocess:Popen",{}]}',
    b'!{"class":"os:system"}',
    b'!{"enum":["corpus:Colour","RED"]}',
    b'!{"model":["corpus:User",{"name":"x"},["name"],null,null],"more":1}',
    b'!{"model":["corpus:Address",{"street":"x"},["street"],null,null]}',
    b'!{"zone":"../../etc/passwd"}',
    b'!{"pattern":["(",0,false]}',
    b'!{"of_list":["corpus:User",{"range":[0,100000000000,1]},{"dict":{}}]}',
    b'!{"tuple":' * 50_000,
    b"[" * 100_000,
    b'{"name":"x","age":1}\n{"raw":[],"at":[[[],"__class__",0]],"lists":[]}',
    b'{"name":"x","age":1}\n{"raw":[{"data":1}],"at":[[[],"__class__",0]],"lists":[]}',
    b'{"name":"x","age":1}\n{"raw":[{"data":1}],"at":[[["name"],null,0]],"lists":[[[],"os:x"]]',
    b'{"name":"x","age":1}\nnull',
    b'{"name":"x","age":1}{}',
]


@pytest.mark.parametrize("payload", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_value_error(payload: bytes) -> None:
    """Bytes that are no payload of the type raise ValueError, and nothing else."""
    with pytest.raises(ValueError) as caught:
        codec_for(User).decode(payload)
    assert "not a payload of User" in str(caught.value)


def test_too_little_stack_is_told_apart_from_damage() -> None:
    """A payload that this stack is too short for raises RecursionError: it may be quite right."""
    codec = codec_for(Login)
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    login = Login.model_construct(user="x", password=(deep,))
    payload = codec.encode(login)

    def decode(depth: int) -> Any:
        return codec.decode(payload) if depth == 0 else decode(depth - 1)

    frames = len(inspect.stack())
    with pytest.raises(RecursionError) as caught:
        decode(sys.getrecursionlimit() - frames - 100)
    assert "Login" in str(caught.value) and caught.value.__suppress_context__
    assert same(codec.decode(payload), login)
    with pytest.raises(RecursionError):
        codec.decode(b"!" + b"[" * 100_000)


def test_errors_do_not_tell_what_a_payload_holds() -> None:
    """What users asked and models answered stays out of error texts and their causes."""
    with pytest.raises(ValueError) as caught:
        codec_for(User).decode(b'{"name":"private matters"}')
    assert "private" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


PAYLOADS = [
    (shape.annotation, codec_for(shape.annotation).encode(value))
    for shape in SHAPES
    if shape.name not in REFUSED and shape.annotation is not Any
    for value in shape.values[:3]
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(PAYLOADS),
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from("xid!"), st.binary(max_size=3))),
    st.integers(0, 10_000),
)
def test_damaged_payloads(
    stored: tuple[Any, bytes], edits: list[tuple[int, str, bytes]], keep: int
) -> None:
    """A truncated or mutated payload is a ValueError, or a value of the annotated type."""
    annotation, payload = stored
    damaged = bytearray(payload[: keep or None])
    for where, how, new in edits:
        at = where % (len(damaged) + 1)
        damaged[at : at + (len(new) if how == "x" else 1 if how == "d" else 0)] = new
    assert_value_error_or_type(annotation, bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PAYLOADS), st.sampled_from(PAYLOADS))
def test_payloads_of_other_types(mine: tuple[Any, bytes], other: tuple[Any, bytes]) -> None:
    """Another type's payload is a ValueError, or a value of the annotated type."""
    assert_value_error_or_type(mine[0], other[1])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([User, list[User], dict[str, Inner], Login]), st.binary(max_size=60))
def test_random_bytes(annotation: Any, payload: bytes) -> None:
    """Random bytes are a ValueError, or a value of the annotated type."""
    assert_value_error_or_type(annotation, payload)
    assert_value_error_or_type(annotation, b"!" + payload)


def assert_value_error_or_type(annotation: Any, payload: bytes) -> None:
    try:
        value = codec_for(annotation).decode(payload)
    except ValueError:
        return
    if isinstance(annotation, type):
        assert isinstance(value, getattr(annotation, "__origin__", annotation))


def test_decoding_imports_nothing() -> None:
    """A payload can't make a module load, not even one that exists."""
    codec = codec_for(Login)
    before = set(sys.modules)
    for name in ("wave:Wave_read", "this:c", "openai.types.chat.chat_completion:ChatCompletion"):
        for tag in ("object", "model", "enum", "class", "of_str"):
            with pytest.raises(ValueError):
                codec.decode(json.dumps({tag: [name, {}, [], None, None]}).encode())
    index = {"raw": [{"class": "wave:Wave_read"}], "at": [[[], "_raw_response", 0]], "lists": []}
    lines = [b'{"user":"x","password":1}', json.dumps(index).encode(), b'{"a":1}']
    found = codec.decode(b"\n".join(lines))
    assert isinstance(found._raw_response, RawCompletion)
    assert set(sys.modules) == before


def test_import_string_is_never_followed() -> None:
    """A field of Pydantic's ImportString is refused rather than imported on a hit."""

    class Hook(BaseModel):
        call: ImportString[Any] | None = None

    codec = codec_for(Hook)
    before = set(sys.modules)
    assert codec.decode(codec.encode(Hook())) == Hook()
    with pytest.raises(Unstorable):
        codec.encode(Hook.model_validate({"call": "math.cos"}))
    with suppress(ValueError):
        assert codec.decode(b'{"call":"wave.open"}').call == "wave.open"
    assert set(sys.modules) == before


def test_import_is_light() -> None:
    """Importing the codecs loads no client library and no event loop."""
    code = (
        "import sys; from instructor_cache.codecs import codec_for;"
        "heavy = {'openai', 'instructor', 'asyncio', 'redis', 'httpx'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": sys.path[0]})


# --- properties ---


class Tone(Enum):
    LOW = 1
    HIGH = "high"


class Spot(NamedTuple):
    x: int
    y: str


TYPES: dict[Any, Any] = {
    int: st.integers(),
    float: st.floats(),
    str: st.text(st.characters(codec=None, categories=("L", "N", "P", "Cs", "Cc"))),
    bool: st.booleans(),
    bytes: st.binary(),
    None: st.none(),
    Decimal: st.decimals(),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.none() | st.just(timezone.utc)),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    complex: st.complex_numbers(),
    Tone: st.sampled_from(Tone),
    Spot: st.builds(Spot, st.integers(), st.text(max_size=3)),
    User: st.builds(User, name=st.text(max_size=3), age=st.integers()),
    Any: st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=2)
        ),
        max_leaves=5,
    ),
}
HASHABLE = {cls: TYPES[cls] for cls in (int, str, bool, bytes, date, UUID, Tone)}
HASHABLE[Decimal] = st.decimals(allow_nan=False)

Typed = tuple[Any, Any]


def compound(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    """Types made of types, each with a strategy for its values."""
    keys = st.sampled_from(list(HASHABLE.items()))
    pairs = st.tuples(inner, inner)
    entries = st.tuples(keys, inner)
    return st.one_of(
        inner.map(lambda one: (list[one[0]], st.lists(one[1], max_size=3))),
        inner.map(lambda one: (Optional[one[0]], st.none() | one[1])),
        keys.map(lambda one: (set[one[0]], st.sets(one[1], max_size=3))),
        pairs.map(lambda two: (Union[two[0][0], two[1][0]], two[0][1] | two[1][1])),
        pairs.map(lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))),
        entries.map(
            lambda two: (
                dict[two[0][0], two[1][0]],
                st.dictionaries(two[0][1], two[1][1], max_size=3),
            )
        ),
    )


TYPED = st.recursive(st.sampled_from(list(TYPES.items())), compound, max_leaves=4)


@st.composite
def models(draw: st.DrawFn) -> BaseModel:
    """An instance of a model made on the spot: odd aliases, defaults, extras and all."""
    typed = draw(st.lists(TYPED, min_size=1, max_size=4))
    fields: dict[str, Any] = {}
    for index, (annotation, values) in enumerate(typed):
        options: dict[str, Any] = {}
        if draw(st.booleans()):
            options["alias"] = draw(st.sampled_from(["f0", "f1", "x y", "$"]))
        if draw(st.booleans()):
            options["default"] = draw(values)
        if draw(st.booleans()):
            options["exclude"] = True
        fields[f"f{index}"] = (annotation, Field(**options))
    extra = draw(st.sampled_from(["allow", "ignore", "forbid"]))
    model = create_model("Made", __config__=ConfigDict(extra=extra), **fields)
    held = {f"f{index}": draw(values) for index, (_, values) in enumerate(typed)}
    chosen = draw(st.sets(st.sampled_from(sorted(held))))
    more = (
        draw(st.dictionaries(st.sampled_from(["more", "f9"]), TYPES[Any]))
        if extra == "allow"
        else {}
    )
    return model.model_construct(_fields_set=chosen, **(held if not more else held | more))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models())
def test_made_up_models_come_back_exactly(model: BaseModel) -> None:
    """Any model of known types, holding any values, comes back the same."""
    assert same(round_trip(type(model), model), model)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TYPED.flatmap(lambda typed: st.tuples(st.just(typed[0]), typed[1])))
def test_made_up_types_come_back_exactly(typed: tuple[Any, Any]) -> None:
    """Any annotation of known types, answered with any value, comes back the same."""
    annotation, value = typed
    assert same(round_trip(annotation, value), value)


# --- classes that instructor makes ---

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


def test_a_generic_model_may_be_made_without_its_argument() -> None:
    """Under ``Box[int]`` what ``Box(...)`` makes is kept as it is; a ``Box[str]`` is refused."""
    codec = codec_for(Box[int])
    for box in (Box(content=1), Box[int](content=1)):
        hit = codec.decode(codec.encode(box))
        assert type(hit) is type(box) and hit == box
    with pytest.raises(Unstorable):
        codec.encode(Box[str](content="x"))


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int


class Private(BaseModel):
    n: int
    _log: list[int] = PrivateAttr(default_factory=list)


ResponseSchema = type("ResponseSchema", (BaseModel,), {"__module__": "instructor.imitation"})


def fresh(result: BaseModel) -> Any:
    """The result as instructor answers it: of a subclass that is made for one call."""
    cls = type(result)
    made = create_model(cls.__name__, __base__=(cls, ResponseSchema), __module__=cls.__module__)
    twin = made.model_construct(_fields_set=set(result.model_fields_set), **dict(result))
    object.__setattr__(twin, "_raw_response", {"id": "r1", "usage": {"total_tokens": 3}})
    return twin


@pytest.mark.parametrize(
    "result",
    [User(name="x", age=1), Frozen(n=1), Box[int](content=1), Private(n=1)],
    ids=lambda result: type(result).__name__,
)
def test_fresh_classes_are_settled(result: BaseModel) -> None:
    """A miss has the user's class, keeps its raw response, and equals the hit."""
    codec = codec_for(type(result))
    miss = codec.settle(fresh(result))
    hit = codec.decode(codec.encode(miss))
    assert type(miss) is type(hit) is type(result)
    assert miss == hit and same(hit, miss)
    assert miss._raw_response == hit._raw_response == {"id": "r1", "usage": {"total_tokens": 3}}


def test_fresh_classes_inside_are_settled() -> None:
    """Fresh instances in lists, tuples, dictionaries and fields get their class as well."""

    class Team(BaseModel):
        lead: User
        rest: list[User] = []

    one = User(name="x", age=1)
    cases: list[tuple[Any, Any]] = [
        (list[User], [fresh(one), one]),
        (dict[str, User], {"a": fresh(one)}),
        (tuple[User, int], (fresh(one), 1)),
        (Team, Team(lead=fresh(one), rest=[fresh(one)])),
    ]
    for annotation, result in cases:
        codec = codec_for(annotation)
        miss = codec.settle(result)
        assert same(codec.decode(codec.encode(miss)), miss)


def test_subclasses_of_the_user_are_left_alone() -> None:
    """Only instructor's own subclasses are settled."""

    class Admin(User):
        level: int = 1

    admin = Admin(name="x", age=1)
    assert codec_for(User).settle(admin) is admin


def test_raw_response_can_be_left_out() -> None:
    """With `raw_response=False` nothing that a client attached is stored."""
    miss = fresh(User(name="x", age=1))
    codec = codec_for(User, raw_response=False)
    payload = codec.encode(miss)
    assert payload == b'{"name":"x","age":1}'
    assert not hasattr(codec.decode(payload), "_raw_response")


class Raw:
    def __str__(self) -> str:
        return "raw text"


@pytest.mark.parametrize("raw", [{"a": [1]}, [1], "text", 5, {"when": date(2024, 1, 1)}, Raw()])
def test_raw_responses_of_other_kinds(raw: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Plain data is kept; what isn't becomes text where it must, with a warning."""
    user = User(name="x", age=1)
    object.__setattr__(user, "_raw_response", raw)
    found = round_trip(User, user)._raw_response
    expected = json.loads(json.dumps(raw, default=str))
    assert found == expected
    assert bool(caplog.records) == (not same(found, raw))


class Broken:
    """A completion that can't be dumped, as a careless client or a mock would make it."""

    def __init__(self, dumped: Any) -> None:
        self.dumped = dumped
        self._request_id = object()

    def model_dump(self, **_: Any) -> Any:
        if isinstance(self.dumped, Exception):
            raise self.dumped
        return self.dumped


@pytest.mark.parametrize("dumped", [RuntimeError("no"), object(), {"id": 1}], ids=repr)
def test_raw_responses_never_lose_the_result(dumped: Any) -> None:
    """A raw response that can't be stored as it is does not keep the result from being stored."""
    user = User(name="x", age=1)
    object.__setattr__(user, "_raw_response", Broken(dumped))
    hit = round_trip(User, user)
    assert (hit.name, hit.age) == ("x", 1)
    assert isinstance(hit._raw_response, (str, RawCompletion))


def test_hits_can_be_stored_again() -> None:
    """What came from one store can go into another, its raw completion included."""
    user = User(name="x", age=1)
    object.__setattr__(user, "_raw_response", Broken({"id": 1, "usage": {"total_tokens": 3}}))
    first = round_trip(User, user)
    again = round_trip(User, first)
    assert again == first
    assert again._raw_response == first._raw_response
    assert again._raw_response.usage.total_tokens == 3


def test_raw_completion_of_an_unknown_class() -> None:
    """A completion whose class is not known has dots, brackets and model_dump."""

    class Usage(BaseModel):
        total_tokens: int

    class Completion(BaseModel):
        id: str
        usage: Usage
        choices: list[Usage]

    user = User(name="x", age=1)
    usage = Usage(total_tokens=3)
    completion = Completion(id="c", usage=usage, choices=[usage])
    object.__setattr__(user, "_raw_response", completion)
    raw = round_trip(User, user)._raw_response
    assert isinstance(raw, RawCompletion)
    assert raw.usage.total_tokens == raw["usage"]["total_tokens"] == 3
    assert raw.choices[0].total_tokens == 3
    assert raw.model_dump() == completion.model_dump()
    assert "id" in raw and set(raw) == {"id", "usage", "choices"}
    with pytest.raises(AttributeError):
        raw.missing  # noqa: B018


def test_lint_tells_troublesome_shapes() -> None:
    """Lint names the field and proposes a fix; ordinary models draw none."""

    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        secret: SecretStr
        anything: Any
        stream: Iterator[int] | None = None
        number: list[Secret[int]] = []
        names: dict[str, list[str]] = {}

    assert lint(User) == []
    told = "\n".join(lint(list[Odd]))
    assert all(f"Odd.{name} " in told for name in ("secret", "anything", "stream", "number"))
    assert "Odd.names" not in told


# --- nothing is used up ---


def one_shots() -> list[Any]:
    """Fresh values that reading would use up, and each holds one and two."""
    made = [(n for n in (1, 2)), iter([1, 2]), reversed([2, 1]), map(int, "12"), zip((1, 2))]
    return [*made, io.BytesIO(b"1\n2"), iter({1: 1, 2: 2})]


@pytest.mark.parametrize("place", range(len(one_shots())))
def test_what_can_be_read_once_is_left_unread(place: int) -> None:
    """An iterator anywhere in a result keeps it out of the store, and is as new afterwards."""

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        it: Any = None
        n: int = 0
        _held: Any = None

    wholes = [
        lambda it: Open(it=it),
        lambda it: Open(it=[{"a": it}]),
        lambda it: Open.model_construct(n=it),
        lambda it: Open(extra=it),
        lambda it: with_private(Open(), it),
    ]
    for whole in wholes:
        it = one_shots()[place]
        with pytest.raises(Unstorable, match="read only once"):
            codec_for(Open).encode(whole(it))
        assert len(list(it)) == 2


def with_private(model: Any, held: Any) -> Any:
    model._held = held
    return model


def test_iterable_field_is_left_unread() -> None:
    """What Pydantic makes of an `Iterable` field can still be read after a refusal."""

    class Stream(BaseModel):
        items: Iterable[int]

    stream = Stream(items=[1, 2, 3])
    with pytest.raises(Unstorable, match=r"Stream\.items.*read only once"):
        codec_for(Stream).encode(stream)
    assert list(stream.items) == [1, 2, 3]


def test_raw_response_is_left_unread() -> None:
    """A raw response that holds a stream keeps it whole; the result is stored all the same."""

    class Completion(BaseModel):
        stream: Any

    user = User(name="x", age=1)
    object.__setattr__(user, "_raw_response", Completion(stream=iter([1, 2])))
    assert round_trip(User, user).name == "x"
    assert list(cast(Any, user)._raw_response.stream) == [1, 2]


# --- secrets have one way out ---


class Unmasked:
    """Annotates a field whose secret is written in full."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(
            lambda value: value,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.get_secret_value()
            ),
        )


class ApiKey(SecretStr):
    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.get_secret_value()
            ),
        )


class Credentials:
    """Keeps a secret in an attribute, and would write it in full."""

    def __init__(self, key: str) -> None:
        self.key = SecretStr(key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and self.key == other.key

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Credentials, (self.key.get_secret_value(),)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.key.get_secret_value()
            ),
        )


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Annotated[SecretStr, Unmasked], SecretStr("sk-1")),
        (ApiKey, ApiKey("sk-1")),
        (Credentials, Credentials("sk-1")),
    ],
    ids=["annotated", "subclass", "attribute"],
)
def test_secrets_find_no_way_around(annotation: Any, value: Any) -> None:
    """A type that writes its secret in full is not asked to, unless secrets may be stored."""
    model = create_model("Holder", value=(annotation, ...), __module__=__name__)
    with pytest.raises(Unstorable):
        codec_for(model).encode(model(value=value))


class Token(SecretStr):
    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.prefix = value[:3]

    def get_secret_value(self) -> str:
        return "another"


def test_attributes_of_secrets_come_back() -> None:
    """A secret's subclass keeps what it holds besides, and what it hides behind its method."""
    holder = create_model("Holder", token=(Token, ...), __module__=__name__)
    token = round_trip(holder, holder.model_construct(token=Token("sk-1")), secrets=True).token
    assert type(token) is Token
    assert vars(token) == {"_secret_value": "sk-1", "prefix": "sk-"}


# --- what the comparer does not believe ---


class Money:
    """Equal by amount alone."""

    def __init__(self, amount: int, currency: str = "EUR") -> None:
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.amount == other.amount

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Money, (self.amount, self.currency)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda v: v.amount),
        )


class Vague(Money):
    """Answers a comparison with something that is merely true."""

    def __eq__(self, other: object) -> Any:
        return [True]

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Vague, (self.amount,)


class Due(date):
    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.fromisoformat(value),
            serialization=core_schema.to_string_ser_schema(),
        )


def due() -> Due:
    found: Any = Due(2024, 1, 2)
    found.label = "rent"
    return cast(Due, found)


@pytest.mark.parametrize(
    "value", [Money(5, "USD"), Vague(5), due()], ids=lambda v: type(v).__name__
)
def test_equality_of_the_user_is_no_proof(value: Any) -> None:
    """Values that only call themselves equal to what would come back are refused."""
    model = create_model("Holder", value=(type(value), ...), __module__=__name__)
    with pytest.raises(Unstorable):
        codec_for(model).encode(model(value=value))


# --- names are data too ---


class Bag:
    pass


def test_names_that_came_with_a_value_are_not_told() -> None:
    """Attributes that no class declares go by their place, a factory by its type."""
    bag = Bag()
    vars(bag)["sk-secret"] = open
    model = create_model("Holder", it=(Any, ...), bag=(Any, ...), __module__=__name__)
    annotation = tuple[model, Bag]  # type: ignore[valid-type]
    values = [
        (model(it=1, bag=1), bag),
        (model(it=defaultdict(partial(str, "sk-secret")), bag=1), Bag()),
    ]
    for value in values:
        with pytest.raises(Unstorable) as caught:
            codec_for(annotation).encode(value)
        assert "sk-secret" not in str(caught.value)
        assert "attribute 0" in str(caught.value) or "is a partial" in str(caught.value)


def test_public_form_does_not_warn() -> None:
    """A value of another type than its field's is not told in a warning of Pydantic's."""

    class Reply(BaseModel):
        it: Hidden
        n: int

    codec, reply = codec_for(Reply), Reply.model_construct(it=Hidden(5), n=cast(Any, "private"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(Unstorable):
            codec.encode(reply)
    assert not told


# --- more of the user's code that is not run ---


class Lower(dict[str, int]):
    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(count("dict.__setitem__", key), value)

    def update(self, *args: Any, **more: Any) -> None:
        count("dict.update")


class Ordered(OrderedDict[str, int]):
    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(count("OrderedDict.__setitem__", key), value)


class Tally(Counter[str]):
    def update(self, *args: Any, **more: Any) -> None:
        count("Counter.update")
        super().update(*args, **more)


class Noted(list[int]):
    def extend(self, items: Iterable[int]) -> None:
        super().extend(count("list.extend", items))


class Marked(set[int]):
    def update(self, *items: Iterable[int]) -> None:
        super().update(*count("set.update", items))


class Queue(deque[int]):
    def extend(self, items: Iterable[int]) -> None:
        super().extend(count("deque.extend", items))


@pytest.mark.parametrize(
    "value",
    [Lower(a=1), Ordered(a=1, b=2), Tally("aab"), Noted([1]), Marked([1]), Queue([1, 2], 3)],
    ids=lambda value: type(value).__name__,
)
def test_containers_are_filled_behind_their_back(value: Any) -> None:
    """A subclass of a container is filled as the builtin fills itself."""
    config = ConfigDict(arbitrary_types_allowed=True)
    holder = create_model("Holder", __config__=config, it=(type(value), ...), __module__=__name__)
    codec = codec_for(holder)
    result = holder.model_construct(it=value)
    payload = codec.encode(result)
    RUNS.clear()
    hit = codec.decode(payload)
    assert not RUNS
    assert same(hit, result)


@functools.wraps(ipaddress.ip_address)
def disguised(value: Any) -> Any:
    return count("disguised", value)


def test_a_borrowed_name_is_not_believed() -> None:
    """A user's function that looks like one of the standard library's does not run on a hit."""

    class Reply(BaseModel):
        address: Annotated[str, AfterValidator(disguised)]

    codec = codec_for(Reply)
    payload = codec.encode(Reply(address="::1"))
    RUNS.clear()
    assert codec.decode(payload).address == "::1"
    assert not RUNS


# --- what a model holds besides its fields ---


class Ticket(BaseModel):
    n: int

    @cached_property
    def token(self) -> str:
        return count("token", uuid4().hex)

    @cached_property
    def teller(self) -> Any:
        return lambda: self.n

    def model_post_init(self, _: Any) -> None:
        self.token, self.teller  # noqa: B018


def test_cached_values_come_back_where_they_can() -> None:
    """A cached property that was used keeps its value; one that can't be stored is made again."""
    ticket = Ticket(n=1)
    payload = codec_for(Ticket).encode(ticket)
    RUNS.clear()
    hit = codec_for(Ticket).decode(payload)
    assert hit.token == ticket.token and not RUNS
    assert "teller" not in vars(hit) and hit.teller() == 1


def test_private_attributes_of_the_users_own_stay() -> None:
    """A private attribute that merely has the name of instructor's is exact, or refused."""

    class Own(BaseModel):
        n: int
        _total_usage: Any = PrivateAttr(default=(1, 2))
        _raw_response: Any = PrivateAttr(default={1, 2})

    for raw_response in (True, False):
        assert same(round_trip(Own, Own(n=1), raw_response=raw_response), Own(n=1))
    own = Own(n=1)
    own._raw_response = Stranger()
    with pytest.raises(Unstorable):
        codec_for(Own).encode(own)


# --- fresh classes, once more ---


def test_own_subclass_with_the_mixin_is_left_alone() -> None:
    """A class that someone wrote keeps its instances, whatever its bases."""

    class Admin(User, ResponseSchema):  # type: ignore[misc, valid-type]
        level: int = 1

    class Renamed(User, ResponseSchema):  # type: ignore[misc, valid-type]
        pass

    methods = {"__module__": __name__, "shout": lambda self: self.name.upper()}
    namesake = type("User", (User, ResponseSchema), methods)
    private = type("User", (User, ResponseSchema), {"__module__": __name__, "_seen": 1})
    for cls in (Admin, Renamed, namesake, private):
        made: Any = cls
        one = made(name="x", age=1)
        assert codec_for(User).settle(one) is one


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str = "pug"


Bound = TypeVar("Bound", bound=BaseModel)


@pytest.mark.parametrize(
    ("annotation", "result"),
    [
        (Animal, Dog(name="x")),
        (BaseModel, Dog(name="x")),
        (Bound, Dog(name="x")),
        (Box, Box[int](content=1)),
    ],
    ids=["base", "BaseModel", "TypeVar", "generic"],
)
def test_fresh_classes_of_subclasses_are_settled(annotation: Any, result: Any) -> None:
    """An annotation that names a base has room for fresh instances of its subclasses."""
    codec = codec_for(annotation)
    other = fresh(result)
    miss = codec.settle(fresh(result))
    hit = codec.decode(codec.encode(miss))
    assert type(miss) is type(hit) is type(result)
    assert miss == hit and other is not miss


def test_a_fresh_instance_stays_one() -> None:
    """What occurs twice is settled to one object, wherever it is found."""

    class Pair(NamedTuple):
        left: Any
        right: Any

    @dataclass
    class Two:
        left: Any
        right: Any

    one = fresh(User(name="x", age=1))
    for twice in ([one, one], (one, one), Pair(one, one)):
        settled: Any = codec_for(list[User]).settle(twice)
        assert type(settled) is type(twice)
        assert type(settled[0]) is User and settled[0] is settled[1]
    two = codec_for(User).settle(Two(one, one))
    assert type(two.left) is User and two.left is two.right


# --- payloads that someone made up ---


@pytest.mark.parametrize(
    "body",
    [
        [[["n", 1]], [], None, None],
        [{"n": 1}, "n", None, None],
        [{"n": 1}, [1], None, None],
        [{"n": 1}, [], [], None],
        [{"n": 1}, [], None, 5],
    ],
    ids=repr,
)
def test_state_of_the_wrong_form_is_a_value_error(body: list[Any]) -> None:
    """A model's state is names and values, and its set fields are names."""
    name = codec_for(Private).encode(Private(n=1))[len('!{"model":["') :].partition(b'"')[0]
    payload = b"!" + json.dumps({"model": [name.decode(), *body]}).encode()
    with pytest.raises(ValueError):
        codec_for(Private).decode(payload)


@pytest.mark.parametrize("place", [[[], "_raw_response", -1], [["name"], None, 0], [[], None, 0]])
def test_places_that_were_not_left_are_refused(place: list[Any]) -> None:
    """A raw answer is only put where one was taken off."""
    index = {"raw": [{"is_data": True}], "at": [place], "lists": []}
    payload = b"\n".join([b'{"name":"x","age":1}', json.dumps(index).encode(), b"1"])
    with pytest.raises(ValueError):
        codec_for(User).decode(payload)


def test_lint_takes_any_metadata() -> None:
    """Metadata that can't be hashed, or that is a class, is no type and no trouble."""

    class Noted(BaseModel):
        a: list[Annotated[int, ["meta"]]]
        b: dict[str, Annotated[int, {"k": Any}, Any]]

    assert lint(Noted) == []
