"""Which return annotations are understood, where names are looked up, and what is refused."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass as plain_dataclass
from enum import Enum
from typing import Annotated, Any, Generic, NamedTuple, Optional, TypeVar, Union

import pydantic
import pytest
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypeAliasType, TypedDict

from instructor_cache import MemoryCache, instructor_cache

T = TypeVar("T")


class User(BaseModel):
    name: str
    age: int = 0


class Dog(BaseModel):
    kind: str = "dog"


class Page(BaseModel, Generic[T]):
    items: list[T]


class Names(RootModel[list[str]]):
    pass


class Node(BaseModel):
    children: list[Node] = []


class Pair(NamedTuple):
    user: User
    score: float


class Record(TypedDict):
    user: User


@pydantic.dataclasses.dataclass
class Place:
    city: str


@plain_dataclass
class Holder:
    user: User


Users = TypeAliasType("Users", "list[User]")

ANSWERS: list[tuple[Any, Any]] = [
    (User, User(name="a")),
    ("User", User(name="a")),
    (Optional[User], None),
    ("User | None", User(name="a")),
    (list[User], [User(name="a"), User(name="b")]),
    ("list[User]", []),
    (list["User"], [User(name="a")]),
    (Optional["User"], User(name="a")),
    (dict[str, list["User"]], {"x": [User(name="a")]}),
    (Union[User, Dog], Dog()),
    (tuple[User, int], (User(name="a"), 1)),
    (tuple[User, ...], (User(name="a"),)),
    (Page[User], Page[User](items=[User(name="a")])),
    ("Page[User]", Page[User](items=[])),
    (Annotated[User, Field(description="x")], User(name="a")),
    (Names, Names(["a"])),
    (Node, Node(children=[Node()])),
    (Place, Place("Rome")),
    (Holder, Holder(User(name="a"))),
    (Pair, Pair(User(name="a"), 0.5)),
    (Record, {"user": User(name="a")}),
    (Users, [User(name="a")]),
    (Iterable[User], [User(name="a")]),
]


@pytest.mark.parametrize(("annotation", "answer"), ANSWERS, ids=lambda x: str(x)[:40])
def test_any_type_that_holds_a_model_is_cached(annotation: Any, answer: Any):
    """The second call gives an equal answer of the same type without calling the function."""
    calls: list[int] = []

    def extract(text: str):
        calls.append(1)
        return answer

    extract.__annotations__["return"] = annotation
    cached = instructor_cache(MemoryCache())(extract)
    first, second = cached("x"), cached("x")
    assert first == second == answer
    assert type(second) is type(answer)
    assert len(calls) == 1


def test_a_stream_that_may_be_none_has_an_annotation():
    """An optional iterator, which is neither a stream nor an answer, is refused with what is."""

    def find(text: str) -> Iterator[User] | None:
        return iter([User(name=text)]) if text else None

    with pytest.raises(ValueError, match=r"`-> Iterable\[UserDetail\] \| None` if it may be None"):
        instructor_cache(MemoryCache())(find)
    cached = instructor_cache(MemoryCache(), returns=Optional[Iterable[User]])(find)
    for _ in range(2):
        assert cached("") is None and list(cached("a") or ()) == [User(name="a")]
    assert cached.cache_info().hits == 2


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        *((int, "int"), (None, "None"), ("None", "None"), (Any, "Any"), (dict, "dict")),
        *((list[int], r"list\[int\]"), (Colour, "Colour"), (Optional[str], "str")),
        (type("Opaque", (), {}), "Opaque"),
    ],
)
def test_an_annotation_without_a_model_is_refused(annotation: Any, found: str):
    """At decoration, with what was found and what to do."""

    def extract(text: str):
        return 1

    extract.__annotations__["return"] = annotation
    with pytest.raises(
        ValueError, match=rf"must return a Pydantic model, found .*{found}.*returns="
    ):
        instructor_cache(MemoryCache())(extract)


def test_no_annotation_is_refused():
    """A function without a return annotation is told so at decoration, bare or called."""

    def extract(text):
        return 1

    for decorate in (instructor_cache, instructor_cache(MemoryCache())):
        with pytest.raises(ValueError, match="found no return annotation"):
            decorate(extract)


def test_returns_names_any_type():
    """`returns=` overrides the annotation, and may be any type that Pydantic knows."""

    @instructor_cache(MemoryCache(), returns=int)
    def count(text: str):
        return len(text)

    @instructor_cache(MemoryCache(), returns=list[User])
    def extract(text: str) -> Any:
        return [User(name=text)]

    assert count("abc") == count("abc") == 3
    assert extract("a") == extract("a") == [User(name="a")]
    assert count.cache_info().hits == extract.cache_info().hits == 1


def test_local_classes_are_found():
    """A string annotation may name a class that is local to the enclosing function."""

    class Local(BaseModel):
        x: int

    @instructor_cache(MemoryCache())
    def extract(text: str) -> Local:
        return Local(x=1)

    @instructor_cache(MemoryCache())
    def many(text: str) -> list[Local] | None:
        return None

    assert extract("a") == extract("a") == Local(x=1)
    assert many("a") is many("a") is None


def test_a_local_class_shadows_a_global_one():
    """Names are looked up from the inside out, as Python does."""

    class User(BaseModel):
        other: int

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        return User(other=1)

    assert extract("a") == extract("a") == User(other=1)


@instructor_cache(MemoryCache())
def early(text: str) -> Later:
    return Later(x=1)


class Later(BaseModel):
    x: int


class Owner(BaseModel):
    pets: list[Pet] = []


@instructor_cache(MemoryCache())
def owner(text: str) -> Owner:
    return Owner(pets=[Pet(name=text)])


class Pet(BaseModel):
    name: str


def test_a_forward_reference_is_resolved_at_the_first_call():
    """A class defined after the function, or a field of one, is found when it is needed."""
    assert early("a") == early("a") == Later(x=1)
    assert early.cache_info().hits == 1
    assert owner("a") == owner("a") == Owner(pets=[Pet(name="a")])
    assert owner.cache_info().hits == 1


async def test_an_unresolvable_annotation_is_told_before_the_call(colour: Any):
    """A name that exists nowhere is a ValueError at the first call, before the function runs."""

    def body(text: str) -> Nowhere:  # noqa: F821
        raise AssertionError("must not run")

    extract = instructor_cache(MemoryCache())(colour.function(body))
    with pytest.raises(ValueError, match=r"'Nowhere' is not defined; define .* returns="):
        await colour.call(extract, "a")


def test_a_foreign_wrapper_does_not_hide_the_names():
    """A function wrapped by another module's decorator is read as the function it wraps."""

    class Local(BaseModel):
        x: int

    @instructor_cache(MemoryCache())
    @functools.lru_cache
    def extract(text: str) -> Local:
        return Local(x=1)

    assert extract("a") == extract("a") == Local(x=1)


def test_a_schema_change_makes_old_answers_unreachable():
    """A field added, retyped or re-constrained, a docstring changed: old answers are not found."""
    memory = MemoryCache()
    versions: list[dict[str, Any]] = [
        {"name": (str, ...)},
        {"name": (str, ...), "age": (int, 0)},
        {"name": (str, ...), "age": (float, 0)},
        {"name": (str, ...), "age": (float, 1)},
        {"name": (str, Field(max_length=5)), "age": (float, 1)},
        {"name": (str, Field(max_length=5, description="x")), "age": (float, 1)},
        {"name": (str, Field(max_length=5, description="x", alias="n")), "age": (float, 1)},
    ]
    seen: set[str] = set()
    for doc in (None, "A prompt."):
        for fields in versions:
            model = pydantic.create_model("Answer", __doc__=doc, **fields)

            def extract(text: str, model: Any = model):
                return model.model_construct(name="Ada")

            extract.__annotations__["return"] = model
            cached = instructor_cache(memory, ignore=("model",))(extract)
            assert cached("a").name == "Ada"
            assert cached.cache_info().misses == 1
            seen.add(cached.cache_key("a"))
    assert len(seen) == 2 * len(versions)


def test_same_named_models_of_two_modules_do_not_share():
    """Two classes of one name and one schema in different modules have their own answers."""
    keys = set()
    for module in ("app.one", "app.two"):
        model = pydantic.create_model("Answer", __module__=module, name=(str, ...))

        def extract(text: str):
            raise NotImplementedError

        extract.__annotations__["return"] = model
        keys.add(instructor_cache(MemoryCache())(extract).cache_key("a"))
    assert len(keys) == 2


class Unspeakable:
    """A class that JSON Schema has no words for."""


def test_a_type_without_json_schema_has_a_fingerprint():
    """A field that JSON Schema can't describe does not prevent caching by `returns`."""

    class Odd(BaseModel, arbitrary_types_allowed=True):
        thing: Unspeakable | None = None
        tags: frozenset[str] = frozenset("abc")

    @instructor_cache(MemoryCache())
    def extract(text: str) -> Odd:
        return Odd()

    assert extract("a").tags == extract("a").tags
    assert extract.cache_info().hits == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no type statement")
@pytest.mark.parametrize(
    "aliases",
    [
        "type A = A",
        "type A = Annotated[A, 1]",
        "type A = B; type B = A",
        "type A = A | None",
    ],
)
def test_an_alias_that_stands_for_itself_is_refused(aliases: str):
    """At decoration, and it ends."""
    names: dict[str, Any] = {"Annotated": Annotated}
    exec(aliases.replace("; ", "\n"), names)

    def ask() -> Any: ...

    ask.__annotations__["return"] = names["A"]
    with pytest.raises(ValueError, match="must return a Pydantic model, found A"):
        instructor_cache(MemoryCache())(ask)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no type statement")
def test_an_alias_of_a_stream_of_what_is_defined_later_says_so():
    """Whether it is a stream has to be known at decoration."""
    names: dict[str, Any] = {"Iterator": Iterator}
    exec("type Later = Iterator[Unknown]", names)

    def ask() -> Any:
        yield User(name="a")

    ask.__annotations__["return"] = names["Later"]
    cached = instructor_cache(MemoryCache())(ask)
    names["Unknown"] = User
    with pytest.raises(ValueError, match="found Later .* define that before the function"):
        list(cached())
