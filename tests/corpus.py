"""Results of every awkward shape we know of: for each a return annotation and some values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import math
import pathlib
import re
import typing as t
import uuid
import warnings
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from zoneinfo import ZoneInfo

import pydantic
import typing_extensions as te
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SerializeAsAny,
    Tag,
    TypeAdapter,
    WrapSerializer,
    WrapValidator,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import core_schema

__all__ = ["SHAPES", "Shape"]


class Shape(t.NamedTuple):
    """A named shape: what the function is annotated with, and what it answered."""

    name: str
    annotation: t.Any
    values: tuple[t.Any, ...]


SHAPES: list[Shape] = []

Maker = Callable[[], tuple[t.Any, ...]]


def shape(make: Maker) -> Maker:
    """Adds what the function returns: the annotation, then the values."""
    annotation, *values = make()
    SHAPES.append(Shape(make.__name__, annotation, tuple(values)))
    return make


def field(name: str, annotation: t.Any, *values: t.Any) -> None:
    """Adds a model with one field of that annotation, holding each of the values as it is."""
    model = create_model(
        f"Holder_{name}",
        __config__=ConfigDict(arbitrary_types_allowed=True),
        __module__=__name__,
        value=(annotation, ...),
    )
    globals()[f"Holder_{name}"] = model
    instances = tuple(model.model_construct(value=value) for value in values)
    SHAPES.append(Shape(name, model, instances))


class User(BaseModel):
    name: str
    age: int
    email: str | None = None


class Address(BaseModel):
    street: str
    zip: str = "00000"


class Person(BaseModel):
    name: str
    address: Address
    others: list[Address] = []


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Pair(enum.Enum):
    ONE = (1, 2)
    TWO = (3, 4)


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Text(str, enum.Enum):
    A = "a"
    B = "b"


class Twin(enum.Enum):
    ONE = 1
    UN = 1
    TRUE = "1"


# --- returns of every kind ---


@shape
def simple_model():
    return (
        User,
        User(name="Ada", age=3),
        User(name="Ada", age=3, email="a@b.c"),
        User(name="", age=0),
    )


@shape
def nested_model():
    return Person, Person(
        name="Ada", address=Address(street="x"), others=[Address(street="y", zip="1")]
    )


@shape
def optional_model():
    return User | None, None, User(name="Ada", age=3)


@shape
def list_of_models():
    return list[User], [], [User(name="Ada", age=3), User(name="Bo", age=4, email=None)]


@shape
def dict_of_models():
    return dict[str, User], {}, {"a": User(name="Ada", age=3), "$tagged": User(name="Bo", age=4)}


@shape
def tuple_of_models():
    return tuple[User, Address], (User(name="Ada", age=3), Address(street="x"))


@shape
def variadic_tuple():
    return tuple[User, ...], (), (User(name="Ada", age=3),) * 3


@shape
def union_of_models():
    return User | Address, User(name="Ada", age=3), Address(street="x")


@shape
def plain_int():
    return int, 0, 1, -1, 2**70


@shape
def plain_text():
    return str, "", "x", "\n", "!", "é" * 9


@shape
def annotated_model():
    return t.Annotated[User, "note"], User(name="Ada", age=3)


@shape
def iterable_of_models():
    return t.Iterable[User], [User(name="Ada", age=3)]


@shape
def sequence_of_models():
    return Sequence[User], [User(name="Ada", age=3)], (User(name="Ada", age=3),)


@shape
def nested_optionals():
    return dict[str, list[User | None]], {"a": [None, User(name="Ada", age=3)], "b": []}


@shape
def literal_result():
    return t.Literal["a", 1, True], "a", 1, True


@shape
def any_result():
    return t.Any, None, 1, "x", [1, (2, 3)], {"a": {1}}


# --- fields set, defaults, extras ---


@shape
def fields_set():
    class M(BaseModel):
        a: int = 1
        b: str = "x"
        c: list[int] = []
        d: dict[str, int] = Field(default_factory=dict)

    odd = M(a=1)
    odd.c.append(4)
    return M, M(), M(a=1), M(a=2, c=[1]), M(b="x", d={"k": 1}), odd


@shape
def default_factories():
    class M(BaseModel):
        id: uuid.UUID = Field(default_factory=uuid.uuid4)
        at: dt.datetime = Field(default_factory=dt.datetime.now)

    return M, M(), M(id=uuid.UUID(int=5))


@shape
def dependent_default_factory():
    class M(BaseModel):
        a: int
        b: int = Field(default_factory=lambda data: data["a"] * 2)

    return M, M(a=1), M(a=1, b=3)


@shape
def mutable_default():
    class M(BaseModel):
        tags: list[str] = ["a"]
        by: dict[str, list[int]] = {"x": [1]}

    return M, M(), M(tags=["a"])


@shape
def default_of_another_type():
    class M(BaseModel):
        a: int = "not an int"  # type: ignore[assignment]
        b: tuple[int, ...] = [1]  # type: ignore[assignment]

    return M, M(), M(a=1)


@shape
def validated_default():
    class M(BaseModel):
        model_config = ConfigDict(validate_default=True)
        a: int = "5"  # type: ignore[assignment]

    return M, M(), M(a=5)


@shape
def enum_default():
    class M(BaseModel):
        c: Colour = Colour.RED
        n: Address = Address(street="d")

    return M, M(), M(c=Colour.BLUE)


@shape
def extra_allowed():
    class M(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int

    return M, M(a=1), M(a=1, b=2, c="x"), M(a=1, n=[1, {"k": None}], **{"odd key": 1, "$": 2})


@shape
def extra_of_odd_types():
    class M(BaseModel):
        model_config = ConfigDict(extra="allow")

    return M, M(when=dt.date(2024, 1, 1), t=(1, 2), b=b"\xff")


@shape
def extra_typed():
    class M(BaseModel):
        model_config = ConfigDict(extra="allow")
        __pydantic_extra__: dict[str, Address]

    return M, M(), M(x=Address(street="s"))  # type: ignore[call-arg]


@shape
def extra_forbidden():
    class M(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int = 1

    return M, M(), M(a=3)


@shape
def extra_ignored():
    class M(BaseModel):
        a: int = 1

    return M, M.model_validate({"a": 1, "b": 2})


@shape
def empty_model():
    class M(BaseModel):
        pass

    return M, M()


@shape
def constructed_without_fields():
    return (
        User,
        User.model_construct(name="x"),
        User.model_construct(_fields_set=set(), name="x", age=1),
    )


@shape
def constructed_with_wrong_types():
    return User, User.model_construct(name=1, age="x"), User.model_construct(name=None, age=[1])


@shape
def copied_with_update():
    return (
        User,
        User(name="x", age=1).model_copy(update={"email": "e"}),
        User(name="x", age=1).model_copy(),
    )


@shape
def fields_set_by_assignment():
    user = User(name="x", age=1)
    user.email = None
    return User, user


# --- private attributes and what lives beside the fields ---


@shape
def private_attributes():
    class M(BaseModel):
        a: int
        _secret_sauce: int = PrivateAttr(7)
        _log: list[str] = PrivateAttr(default_factory=list)

    changed = M(a=1)
    changed._secret_sauce = 9
    changed._log.append("x")
    return M, M(a=1), changed


@shape
def private_of_user_type():
    class M(BaseModel):
        a: int = 1
        _home: Address = PrivateAttr(Address(street="p"))

    return M, M()


@shape
def private_unset():
    class M(BaseModel):
        a: int = 1
        _late: int = PrivateAttr()

    late = M()
    late._late = 5
    return M, M(), late


@shape
def private_nested():
    class Inner(BaseModel):
        _n: int = PrivateAttr(1)

    class M(BaseModel):
        inner: Inner

    value = M(inner=Inner())
    value.inner._n = 5
    return M, value


@shape
def post_init_side_effect():
    class M(BaseModel):
        a: int
        _seen: list[int] = PrivateAttr(default_factory=list)

        def model_post_init(self, _: t.Any) -> None:
            self._seen.append(self.a)

    return M, M(a=1)


@shape
def post_init_changes_fields():
    class M(BaseModel):
        a: int

        def model_post_init(self, _: t.Any) -> None:
            self.a += 1

    return M, M(a=1)


class Circle(BaseModel):
    r: float

    @cached_property
    def area(self) -> float:
        return math.pi * self.r**2


@shape
def cached_property_in_use():
    used = Circle(r=2)
    assert used.area
    return Circle, Circle(r=2), used


@shape
def cached_computed_field():
    class M(BaseModel):
        a: int

        @computed_field
        @cached_property
        def twice(self) -> int:
            return self.a * 2

    used = M(a=2)
    assert used.twice
    return M, M(a=1), used


@shape
def attribute_beside_fields():
    user = User(name="x", age=1)
    object.__setattr__(user, "note", ("beside", 1))
    return User, user


@shape
def custom_init():
    class M(BaseModel):
        a: int

        def __init__(self, x: int, **kw: t.Any) -> None:
            super().__init__(a=x, **kw)

    return M, M(5)


@shape
def custom_new():
    class M(BaseModel):
        a: int

        def __new__(cls, *args: t.Any, **kw: t.Any):
            return super().__new__(cls)

    return M, M(a=5)


# --- aliases ---


@shape
def alias():
    class M(BaseModel):
        a: int = Field(alias="aA")

    return M, M(aA=1)


@shape
def validation_alias():
    class M(BaseModel):
        a: int = Field(validation_alias="aA")

    return M, M(aA=1)


@shape
def serialization_alias():
    class M(BaseModel):
        a: int = Field(serialization_alias="aA")

    return M, M(a=1)


@shape
def swapped_aliases():
    class M(BaseModel):
        a: int = Field(alias="b")
        b: int = Field(alias="a")

    return M, M(a=1, b=2)


@shape
def swapped_serialization_aliases():
    class M(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)
        a: int = Field(serialization_alias="b")
        b: int = Field(serialization_alias="a")

    return M, M(a=1, b=2)


@shape
def alias_choices():
    class M(BaseModel):
        a: int = Field(validation_alias=AliasChoices("x", "y"))

    return M, M(y=1)


@shape
def alias_path():
    class M(BaseModel):
        a: int = Field(validation_alias=AliasPath("deep", 0, "down"))

    return M, M.model_validate({"deep": [{"down": 1}]})


@shape
def alias_generator():
    class M(BaseModel):
        model_config = ConfigDict(alias_generator=to_camel)
        first_name: str
        last_name: str = "x"

    return M, M(firstName="a"), M(firstName="a", lastName="b")


@shape
def alias_generators_apart():
    class M(BaseModel):
        model_config = ConfigDict(
            alias_generator=AliasGenerator(
                validation_alias=str.upper, serialization_alias=str.title
            )
        )
        first: str

    return M, M(FIRST="a")


@shape
def serialize_by_alias():
    class M(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)
        a: int = Field(alias="aA")

    return M, M(aA=1)


@shape
def populate_by_name():
    class M(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        a: int = Field(alias="aA")

    return M, M(a=1), M(aA=1)


@shape
def nested_aliases():
    class Inner(BaseModel):
        a: int = Field(alias="aA")

    class M(BaseModel):
        inner: Inner = Field(alias="in")
        more: dict[str, Inner] = Field(default={}, alias="mo")

    return (
        M,
        M.model_validate({"in": {"aA": 1}}),
        M.model_validate({"in": {"aA": 1}, "mo": {"k": {"aA": 2}}}),
    )


@shape
def alias_equal_to_extra():
    class M(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = Field(alias="b")

    return M, M(b=1), M.model_validate({"b": 1, "c": 3})


# --- exclusion, computed fields, serializers ---


@shape
def excluded_field():
    class M(BaseModel):
        a: int
        b: int = Field(2, exclude=True)

    return M, M(a=1), M(a=1, b=3)


if "exclude_if" in Field.__code__.co_varnames:

    @shape
    def excluded_if():
        class M(BaseModel):
            a: int = Field(exclude_if=lambda value: value == 0)

        return M, M(a=0), M(a=1)


@shape
def computed_fields():
    class M(BaseModel):
        a: int

        @computed_field
        @property
        def twice(self) -> int:
            return self.a * 2

    return M, M(a=1)


@shape
def computed_field_extra_forbidden():
    class M(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int

        @computed_field
        def twice(self) -> int:
            return self.a * 2

    return M, M(a=1)


@shape
def computed_field_extra_allowed():
    class M(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int

        @computed_field
        def twice(self) -> int:
            return self.a * 2

    return M, M(a=1), M(a=1, b=3)


@shape
def computed_field_that_raises():
    class M(BaseModel):
        a: int

        @computed_field
        def broken(self) -> int:
            raise RuntimeError("never")

    return M, M(a=1)


@shape
def lossy_field_serializer():
    class M(BaseModel):
        a: float

        @field_serializer("a")
        def rounded(self, value: float) -> float:
            return round(value)

    return M, M(a=1.25)


@shape
def lossy_model_serializer():
    class M(BaseModel):
        a: int
        b: int

        @model_serializer
        def short(self) -> str:
            return f"{self.a}"

    return M, M(a=1, b=2)


@shape
def wrapping_model_serializer():
    class M(BaseModel):
        a: int

        @model_serializer(mode="wrap")
        def more(self, handler: t.Any) -> t.Any:
            return {"type": "M", **handler(self)}

    return M, M(a=1)


@shape
def annotated_serializers():
    class M(BaseModel):
        a: t.Annotated[int, PlainSerializer(lambda v: f"<{v}>")]
        b: t.Annotated[dt.date, WrapSerializer(lambda v, h: h(v)[:4])]

    return M, M(a=1, b=dt.date(2024, 2, 3))


@shape
def raising_serializer():
    class M(BaseModel):
        a: int

        @field_serializer("a")
        def never(self, value: int) -> int:
            raise RuntimeError("never")

    return M, M(a=1)


# --- validators ---


@shape
def validator_that_changes():
    class M(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def next(cls, value: int) -> int:
            return value + 1

    return M, M(a=1)


@shape
def validators_of_every_mode():
    class M(BaseModel):
        a: t.Annotated[int, BeforeValidator(lambda v: int(v) + 1)]
        b: t.Annotated[int, AfterValidator(lambda v: v + 1)]
        c: t.Annotated[int, PlainValidator(lambda v: int(v) + 1)]
        d: t.Annotated[int, WrapValidator(lambda v, h: h(v) + 1)]

    return M, M(a=1, b=1, c=1, d=1)


@shape
def validator_that_changes_the_type():
    class M(BaseModel):
        a: t.Annotated[str, AfterValidator(lambda v: tuple(v.split(",")))]
        b: t.Annotated[int, AfterValidator(str)]

    return M, M(a="x,y", b=1)


@shape
def model_validators():
    class M(BaseModel):
        a: int

        @model_validator(mode="before")
        @classmethod
        def before(cls, data: t.Any) -> t.Any:
            return {"a": data["a"] + 1}

        @model_validator(mode="after")
        def after(self) -> te.Self:
            self.a += 1
            return self

        @model_validator(mode="wrap")
        @classmethod
        def wrap(cls, data: t.Any, handler: t.Any) -> te.Self:
            return handler(data)

    return M, M(a=1)


@shape
def context_required():
    class M(BaseModel):
        quote: str

        @field_validator("quote")
        @classmethod
        def cited(cls, value: str, info: pydantic.ValidationInfo) -> str:
            assert info.context is not None, "context wanted"
            return value if value in info.context["text"] else "?"

    return M, M.model_validate({"quote": "a"}, context={"text": "abc"})


@shape
def validator_that_raises_on_its_own_output():
    class M(BaseModel):
        a: str

        @field_validator("a")
        @classmethod
        def once(cls, value: str) -> str:
            if value.startswith("#"):
                raise ValueError("already marked")
            return "#" + value

    return M, M(a="x")


@shape
def nested_validators():
    class Inner(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def next(cls, value: int) -> int:
            return value + 1

    class M(BaseModel):
        inner: Inner
        many: list[Inner]

    return M, M(inner=Inner(a=1), many=[Inner(a=2)])


@shape
def string_transformations():
    class M(BaseModel):
        model_config = ConfigDict(str_to_upper=True, str_strip_whitespace=True, str_max_length=5)
        a: str

    broken = M(a="x")
    broken.a = "  lower and long "
    return M, M(a=" ab "), broken


@shape
def constraints_broken_by_assignment():
    class M(BaseModel):
        a: int = Field(gt=0, lt=10)
        b: str = Field("abc", pattern="^[a-z]+$", min_length=2)
        c: list[int] = Field([1], max_length=2)
        d: Decimal = Field(Decimal(1), max_digits=2, decimal_places=1)

    broken = M(a=1)
    broken.a, broken.b, broken.c, broken.d = -5, "1", [1, 2, 3], Decimal("123.456")
    return M, M(a=1), broken, M.model_construct(a=100)


@shape
def types_broken_by_assignment():
    user = User(name="x", age=1)
    user.age = 1.0  # type: ignore[assignment]
    user.name = ("a", None)  # type: ignore[assignment]
    return User, user


@shape
def frozen_model():
    class M(BaseModel):
        model_config = ConfigDict(frozen=True)
        a: int
        b: tuple[int, ...] = ()

    return M, M(a=1), M(a=1, b=(1, 2))


@shape
def strict_model():
    class M(BaseModel):
        model_config = ConfigDict(strict=True)
        a: int
        b: dt.datetime
        c: Colour
        d: tuple[int, ...]
        e: bytes
        f: uuid.UUID

    return M, M(a=1, b=dt.datetime(2024, 1, 1), c=Colour.RED, d=(1,), e=b"x", f=uuid.UUID(int=1))


@shape
def validate_assignment():
    class M(BaseModel):
        model_config = ConfigDict(validate_assignment=True)
        a: int

    return M, M(a=1)


@shape
def coerced_numbers():
    class M(BaseModel):
        model_config = ConfigDict(coerce_numbers_to_str=True)
        a: str

    return M, M(a=1), M.model_construct(a=1)


@shape
def enum_values_used():
    class M(BaseModel):
        model_config = ConfigDict(use_enum_values=True)
        c: Colour
        n: Level = Level.LOW

    return M, M(c=Colour.RED), M(c="blue", n=2), M.model_construct(c=Colour.RED)


@shape
def config_of_bytes_and_floats():
    class M(BaseModel):
        model_config = ConfigDict(
            ser_json_bytes="hex",
            val_json_bytes="base64",
            ser_json_inf_nan="null",
            ser_json_timedelta="float",
        )
        a: bytes
        b: float
        c: dt.timedelta

    return M, M(a=b"\xff", b=math.inf, c=dt.timedelta(days=1, microseconds=1))


# --- inheritance, generics, recursion, unions ---


class Animal(BaseModel):
    name: str


class Dog(Animal):
    good: bool = True


class Puppy(Dog):
    weeks: int = 3


class Zoo(BaseModel):
    star: Animal
    rest: list[Animal] = []
    duck: SerializeAsAny[Animal] | None = None


@shape
def subclass_in_base_field():
    return (
        Zoo,
        Zoo(star=Dog(name="a")),
        Zoo(star=Animal(name="b"), rest=[Puppy(name="c"), Dog(name="d")], duck=Dog(name="e")),
    )


@shape
def subclass_result():
    return Animal, Animal(name="a"), Dog(name="a"), Puppy(name="a", weeks=1)


@shape
def field_of_base_model():
    class M(BaseModel):
        any_model: BaseModel

    return M, M(any_model=User(name="a", age=1))


T = t.TypeVar("T")
B = t.TypeVar("B", bound=Animal)


class Box(BaseModel, t.Generic[T]):
    content: T


class Cage(BaseModel, t.Generic[B]):
    animal: B


@shape
def generic_parametrised():
    return Box[int], Box[int](content=1)


@shape
def generic_of_model():
    return Box[User], Box[User](content=User(name="a", age=1))


@shape
def generic_unparametrised():
    return Box, Box(content=1), Box(content="x"), Box[int](content=1), Box(content=(1, 2))


@shape
def generic_of_generic():
    return Box[Box[list[int]]], Box[Box[list[int]]](content=Box[list[int]](content=[1]))


@shape
def generic_bound():
    return Cage, Cage(animal=Dog(name="a")), Cage[Dog](animal=Dog(name="a"))


class Node(BaseModel):
    value: int
    children: list[Node] = []
    parent: t.Optional[Node] = None


@shape
def recursive_model():
    return Node, Node(
        value=1, children=[Node(value=2, children=[Node(value=3)])], parent=Node(value=0)
    )


@shape
def deep_recursion():
    node = Node(value=0)
    for depth in range(40):
        node = Node(value=depth, parent=node)
    return Node, node


class Left(BaseModel):
    right: t.Optional[Right] = None


class Right(BaseModel):
    left: t.Optional[Left] = None
    n: int = 0


@shape
def mutual_recursion():
    return Left, Left(right=Right(left=Left(), n=2))


class Cat(BaseModel):
    kind: t.Literal["cat"] = "cat"
    lives: int = 9


class Fish(BaseModel):
    kind: t.Literal["fish"] = "fish"
    lives: int = 1


@shape
def discriminated_union():
    class M(BaseModel):
        pet: t.Union[Cat, Fish] = Field(discriminator="kind")

    return M, M(pet=Cat()), M(pet={"kind": "fish", "lives": 2})


@shape
def discriminated_union_by_alias():
    class A(BaseModel):
        kind: t.Literal["a"] = Field(alias="type")

    class B_(BaseModel):
        kind: t.Literal["b"] = Field(alias="type")

    class M(BaseModel):
        it: t.Union[A, B_] = Field(discriminator="kind")

    return M, M.model_validate({"it": {"type": "b"}})


@shape
def discriminated_union_by_function():
    class M(BaseModel):
        pet: t.Annotated[
            t.Union[t.Annotated[Cat, Tag("c")], t.Annotated[Fish, Tag("f")]],
            Discriminator(
                lambda v: "c" if (v["kind"] if isinstance(v, dict) else v.kind) == "cat" else "f"
            ),
        ]

    return M, M(pet=Fish(lives=3)), M(pet=Cat())


@shape
def discriminated_result():
    pets = t.Annotated[t.Union[Cat, Fish], Field(discriminator="kind")]
    return pets, Cat(kind="cat"), Fish(lives=4)


class Metres(BaseModel):
    n: int


class Feet(BaseModel):
    n: int


class Measured(BaseModel):
    length: t.Union[Metres, Feet]
    both: tuple[t.Union[Feet, Metres], ...] = ()


@shape
def look_alike_models():
    return (
        Measured,
        Measured(length=Feet(n=1)),
        Measured(length=Metres(n=1), both=(Metres(n=2), Feet(n=3))),
    )


field("union_str_date", t.Union[str, dt.date], "2024-01-01", dt.date(2024, 1, 1))
field("union_date_str", t.Union[dt.date, str], "2024-01-01", dt.date(2024, 1, 1))
field("union_int_float", t.Union[int, float], 1, 1.0, -0.0, 2.5)
field("union_float_int", t.Union[float, int], 1, 1.0)
field("union_int_str", t.Union[int, str], 1, "1", True)
field("union_bool_int", t.Union[bool, int], True, 1, 0, False)
field("union_str_bytes", t.Union[str, bytes], "x", b"x", b"\xff")
field("union_str_uuid", t.Union[str, uuid.UUID], uuid.UUID(int=1), str(uuid.UUID(int=1)))
field("union_list_tuple_set", t.Union[list[int], tuple[int, ...], set[int]], [1], (1,), {1})
field("union_enum_str", t.Union[Colour, str], Colour.RED, "red")
field("union_decimal_float", t.Union[Decimal, float], Decimal("1.0"), 1.0, "1")
field(
    "union_datetime_date",
    t.Union[dt.datetime, dt.date],
    dt.datetime(2024, 1, 1),
    dt.date(2024, 1, 1),
)
field(
    "union_dict_model",
    t.Union[User, dict[str, t.Any]],
    {"name": "a", "age": 1},
    User(name="a", age=1),
)
field("union_path_str", t.Union[pathlib.Path, str], pathlib.Path("x"), "x")


# --- root models, dataclasses, tuples, dictionaries ---


class Tags(RootModel[list[str]]):
    pass


@shape
def root_model():
    return Tags, Tags(["a"]), Tags([])


@shape
def root_model_of_dict():
    return RootModel[dict[str, User]], RootModel[dict[str, User]]({"a": User(name="a", age=1)})


@shape
def root_model_of_scalar():
    return RootModel[int], RootModel[int](0), RootModel[int](5)


@shape
def root_model_of_none():
    return RootModel[t.Optional[User]], RootModel[t.Optional[User]](None)


@shape
def root_model_with_default():
    class M(RootModel[list[int]]):
        root: list[int] = []

    return M, M(), M([1])


@shape
def root_model_in_field():
    class M(BaseModel):
        tags: Tags
        many: dict[str, Tags] = {}

    return M, M(tags=Tags(["a"])), M(tags=Tags([]), many={"k": Tags(["b"])})


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@pydantic_dataclass
class Checked:
    x: int
    when: dt.date = dt.date(2024, 1, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int
    y: tuple[int, ...] = ()


@shape
def stdlib_dataclass():
    return Point, Point(1), Point(1, 2, ["a"])


@shape
def pydantic_dataclass_result():
    return Checked, Checked(1), Checked(2, dt.date(2020, 1, 1))


@shape
def slotted_frozen_dataclass():
    return list[Slotted], [Slotted(1), Slotted(1, (2, 3))]


@shape
def dataclass_with_init_false():
    @dataclasses.dataclass
    class D:
        x: int
        twice: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            self.twice = self.x * 2

    return D, D(2)


@shape
def dataclass_with_init_var():
    @pydantic_dataclass
    class D:
        x: int
        start: dataclasses.InitVar[int] = 0

        def __post_init__(self, start: int) -> None:
            self.x += start

    return D, D(1, 5)


@shape
def dataclass_with_validator():
    @pydantic_dataclass
    class D:
        x: int

        @field_validator("x")
        @classmethod
        def next(cls, value: int) -> int:
            return value + 1

    return D, D(1)


@shape
def dataclass_with_extra_attribute():
    point = Point(1)
    point.note = "beside"  # type: ignore[attr-defined]
    return Point, point


@shape
def dataclass_in_model():
    class M(BaseModel):
        point: Point
        points: dict[str, Checked]

    return M, M(point=Point(1), points={"a": Checked(3)})


class Spot(t.NamedTuple):
    x: int
    y: str = "y"


Loose = namedtuple("Loose", "a b")


class Movie(te.TypedDict):
    title: str
    year: te.NotRequired[int]


@shape
def named_tuples():
    class M(BaseModel):
        spot: Spot
        spots: list[Spot] = []

    return M, M(spot=Spot(1)), M(spot=Spot(1, "z"), spots=[Spot(2)])


@shape
def loose_named_tuple():
    class M(BaseModel):
        it: Loose

    return M, M(it=Loose(1, "x")), M(it=Loose((1,), None))


@shape
def named_tuple_result():
    return tuple[Spot, User], (Spot(1), User(name="a", age=1))


@shape
def typed_dict():
    class M(BaseModel):
        movie: Movie

    return (
        M,
        M(movie={"title": "a"}),
        M(movie={"title": "a", "year": 1}),
        M.model_construct(movie={"year": 1, "title": "a"}),
    )


# --- values of every type ---

field(
    "any_values",
    t.Any,
    None,
    1,
    1.5,
    "x",
    [1, 2],
    {"a": 1},
    (1, 2),
    {1, 2},
    b"\xff",
    Decimal("1.0"),
    dt.date(2024, 1, 1),
    True,
)
field(
    "any_nested_values",
    t.Any,
    {"a": [(1, {"b": {2}})]},
    [dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)],
    {1: {(2, 3): None}},
)
field("any_range_and_ellipsis", t.Any, range(1, 9, 2), ..., 1 + 2j, Fraction(1, 3))
field("object_values", object, 1, "x", (1,))
field("bytes", bytes, b"", b"abc", b"\xff\xfe\x00", bytes(range(256)))
field("bytearray", bytearray, bytearray(b"\xff"), bytearray())
field(
    "floats",
    float,
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    1e308,
    5e-324,
    0.1,
    1 / 3,
    1e16,
    123456789.123456789,
)
field("list_of_floats", list[float], [math.nan, -0.0, math.inf], [])
field("ints", int, 0, 2**53 + 1, -(2**63), 2**63, 2**64, 10**100, -(10**50))
field("huge_int", int, 10**5000)
field("int_in_float_field", float, 1, True)
field("complexes", complex, 1 + 2j, complex(-0.0, math.nan), complex(math.inf, -1))
field(
    "decimals",
    Decimal,
    Decimal("1.10"),
    Decimal("NaN"),
    Decimal("-0"),
    Decimal("1E+400"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    Decimal("0." + "1" * 60),
)
field("fractions", Fraction, Fraction(1, 3), Fraction(-7))
field("texts", str, "", "\x00", "\u2028", "a\nb", "𝒳", '"\\', "null", "NaN")
field("lone_surrogates", str, "\ud800", "a\udfffb")
field("dates", dt.date, dt.date.min, dt.date.max, dt.date(2024, 2, 29), dt.date(1, 1, 1))
field(
    "times",
    dt.time,
    dt.time.min,
    dt.time.max,
    dt.time(1, 2, 3, 4, tzinfo=dt.timezone.utc),
    dt.time(1, fold=1),
)
field(
    "datetimes",
    dt.datetime,
    dt.datetime.min,
    dt.datetime.max,
    dt.datetime(2024, 1, 1, 1, 1, 1, 1),
    dt.datetime(2024, 10, 27, 2, 30, fold=1),
)
field(
    "timestamps_in_zones",
    dt.datetime,
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc),
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1))),
    TypeAdapter(dt.datetime).validate_json('"2024-01-01T00:00:00+02:00"'),
    TypeAdapter(dt.datetime).validate_json('"2024-01-01T00:00:00Z"'),
)
field(
    "timedeltas",
    dt.timedelta,
    dt.timedelta.min,
    dt.timedelta.max,
    dt.timedelta(0),
    dt.timedelta(microseconds=-1),
    dt.timedelta(days=-1, seconds=1),
    dt.timedelta(days=400, microseconds=7),
)
field("zones", ZoneInfo, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"))
field("uuids", uuid.UUID, uuid.UUID(int=0), uuid.uuid4())
field(
    "paths",
    pathlib.Path,
    pathlib.Path("a/b"),
    pathlib.Path("/"),
    pathlib.Path(""),
    pathlib.Path("\udcff"),
)
field("pure_paths", pathlib.PurePath, pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("c:\\a"))
field("patterns", re.Pattern[str], re.compile("a+"), re.compile("a+", re.I | re.X))
field("byte_patterns", re.Pattern[bytes], re.compile(b"\xff+"))
field("ip_addresses", ipaddress.IPv4Address, ipaddress.IPv4Address("1.2.3.4"))
field(
    "ip_any",
    pydantic.IPvAnyNetwork,
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("2001:db8::/32"),
)
field("ip_interfaces", ipaddress.IPv6Interface, ipaddress.IPv6Interface("::1/64"))
field("urls", pydantic.AnyUrl, pydantic.AnyUrl("http://a.b/c?d=e#f"), pydantic.AnyUrl("foo://x"))
field("http_urls", pydantic.HttpUrl, pydantic.HttpUrl("https://münchen.de/ü"))
field("dsns", pydantic.PostgresDsn, pydantic.PostgresDsn("postgres://u:p@h1:1,h2:2/db"))
field("byte_sizes", ByteSize, ByteSize(1), ByteSize(10**12))
field("enums", Colour, Colour.RED, Colour.BLUE)
field("int_enums", Level, Level.LOW)
field("enums_of_tuples", Pair, Pair.ONE, Pair.TWO)
field("flags", Rights, Rights.READ, Rights.READ | Rights.WRITE, Rights(0))
field("int_flags", Bits, Bits.A, Bits.A | Bits.B, Bits(0))
field("text_enums", Text, Text.A)
field("enums_with_aliases", Twin, Twin.ONE, Twin.UN, Twin.TRUE)
field("enum_in_plain_field", int, 1)
field("enum_keys", dict[Colour, int], {Colour.RED: 1, Colour.BLUE: 2})
field("tuple_enum_keys", dict[Pair, int], {Pair.ONE: 1})
field("literals", t.Literal["a", 1, Colour.RED, b"x", None], "a", 1, Colour.RED, b"x", None)
field("literal_of_bools_and_ints", t.Literal[1, True, "1"], 1, True, "1")
field("int_keys", dict[int, str], {1: "a", -5: "b", 2**70: "c"})
field("float_keys", dict[float, int], {0.1: 1, math.inf: 2, -0.0: 3})
field("bool_keys", dict[bool, int], {True: 1, False: 2})
field("none_keys", dict[None, int], {None: 1})
field("bytes_keys", dict[bytes, int], {b"\xff": 1, b"a": 2})
field("tuple_keys", dict[tuple[int, str], int], {(1, "a"): 1})
field("date_keys", dict[dt.date, int], {dt.date(2024, 1, 1): 1})
field("datetime_keys", dict[dt.datetime, int], {dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc): 1})
field("uuid_keys", dict[uuid.UUID, int], {uuid.UUID(int=1): 1})
field("decimal_keys", dict[Decimal, int], {Decimal("1.0"): 1})
field("frozenset_keys", dict[frozenset[int], int], {frozenset({1, 2}): 1})
field("mixed_keys", dict[t.Any, t.Any], {1: "a", "1": "b", None: "c", (1,): "d", 2.5: "e"})
field("look_alike_keys", dict[t.Union[int, str], int], {1: 1, "1": 2})
field("path_keys", dict[pathlib.Path, int], {pathlib.Path("a"): 1})
field("sets", set[int], set(), {1, 2, 3})
field("sets_of_mixed", set[t.Any], {1, "1", None, (1, 2), 2.5}, {math.nan})
field("frozensets", frozenset[str], frozenset(), frozenset({"a"}))
field("sets_of_sets", set[frozenset[int]], {frozenset({1}), frozenset()})
field("deques", deque[int], deque([1, 2]), deque([1], maxlen=3))
field("ordered_dicts", OrderedDict[str, int], OrderedDict(b=1, a=2))
field("counters", Counter[str], Counter("aab"), Counter())
field(
    "defaultdicts",
    defaultdict[str, list[int]],
    defaultdict(list, a=[1]),
    defaultdict(None, a=[1]),
    defaultdict(dict, a=[1]),
)
field("mappings", Mapping[str, int], {"a": 1}, OrderedDict(a=1))
field("sequences", Sequence[int], [1], (1,), deque([1]))
field("iterables", t.Iterable[int], [1, 2], (1, 2), {1})
field("tuples", tuple[int, str], (1, "a"))
field("empty_tuples", tuple[()], ())
field("bare_containers", dict, {}, {"a": (1,)}, {1: 2})
field("bare_lists", list, [], [1, "a", None], [(1,)])
field("bare_tuples", tuple, (), (1, "a"), ([1],))
field("nested_containers", dict[str, list[tuple[int, set[str]]]], {"a": [(1, {"x"})], "b": []})
field("json_text", pydantic.Json[list[int]], [1, 2])
field("base64", pydantic.Base64Bytes, b"\xff\x00")
field("base64_text", pydantic.Base64Str, "é")
field("types", type[Animal], Dog, Animal)
field("nones", None, None)
field("payment", t.Annotated[str, Field(max_length=3)], "toolong")


# --- user types ---


class UserId(str):
    @classmethod
    def __get_pydantic_core_schema__(cls, _source: t.Any, _handler: t.Any) -> t.Any:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class Vector:
    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def parse(cls, value: t.Any) -> t.Any:
        return value if isinstance(value, cls) else cls(*value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: t.Any, _handler: t.Any) -> t.Any:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda v: [v.x, v.y]),
        )


class Opaque:
    __slots__ = ("left", "right")

    def __init__(self, left: t.Any) -> None:
        self.left = left


class Hidden:
    """Its state is where only its own methods find it."""

    __slots__ = ("_n",)

    def __init__(self, n: int) -> None:
        self._n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and self._n == other._n

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> t.Any:
        return Hidden, (self._n,)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: t.Any, _handler: t.Any) -> t.Any:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda v: v._n),
        )


class Celsius(float):
    pass


class Names(list):  # type: ignore[type-arg]
    pass


field("text_subclass", UserId, UserId("u1"))
field("custom_schema", Vector, Vector(1.5, 2.5))
field("custom_schema_of_hidden_state", Hidden, Hidden(5))
field("list_of_custom_schema", list[Vector], [Vector(1, 2)], [])
field("arbitrary_type", Opaque, Opaque(1), Opaque([(1,)]))
field("optional_arbitrary_type", t.Optional[Opaque], None, Opaque(None))
field("float_subclass", Celsius, Celsius(36.6))
field("list_subclass", Names, Names(["a"]))
field("int_enum_in_int_field", t.Union[int, Level], Level.LOW, 1)

UserName = t.NewType("UserName", str)
Alias = te.TypeAliasType("Alias", "dict[str, list[Alias]] | int")

field("new_type", UserName, UserName("x"))
field("recursive_alias", Alias, 1, {"a": [1, {"b": []}]})


# --- subclasses that tell another story than they hold ---


class Visible(list):  # type: ignore[type-arg]
    def __iter__(self) -> t.Any:
        return (item for item in list.__iter__(self) if not item.startswith("_"))


class Sorted(tuple):  # type: ignore[type-arg]
    __slots__ = ()

    def __iter__(self) -> t.Any:
        return iter(sorted(tuple.__iter__(self)))


class Public(dict):  # type: ignore[type-arg]
    def items(self) -> t.Any:
        return [(key, item) for key, item in dict.items(self) if not key.startswith("_")]


class Without(set):  # type: ignore[type-arg]
    def __iter__(self) -> t.Any:
        return (item for item in set.__iter__(self) if item != 1)

    def __len__(self) -> int:
        return 1


class Rounded(float):
    def __float__(self) -> float:
        return 9.0

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


class Masked(bytes):
    def __bytes__(self) -> bytes:
        return b"***"


class Spoken(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "spoken"


class Early:
    @cached_property
    def total(self) -> int:
        return 1


@dataclasses.dataclass
class Late(Early):
    total: t.Any = 0  # type: ignore[assignment]


class EarlyModel(BaseModel):
    @cached_property
    def total(self) -> int:
        return 1


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the field hides a property, which is the point

    class LateModel(EarlyModel):
        total: t.Any = 0  # type: ignore[assignment]


class Used(BaseModel):
    n: int

    @cached_property
    def token(self) -> tuple[str, int]:
        return uuid.uuid4().hex, self.n

    def model_post_init(self, _: t.Any) -> None:
        self.token  # noqa: B018


field("list_that_hides", Visible, Visible(["a", "_b"]))
field("tuple_that_sorts", Sorted, Sorted((3, 1)))
field("dict_that_hides", Public, Public(a=1, _b=2))
field("set_that_hides", Without, Without({1, 2}))
field("float_that_rounds", Rounded, Rounded(1.5))
field("bytes_that_mask", Masked, Masked(b"abc"))
field("text_that_speaks", Spoken, Spoken("raw"))
field("field_over_cached_property", Late, Late((5,)))
field("model_field_over_cached_property", LateModel, LateModel(total=(5,)))
field("cached_property_of_model_in_use", Used, Used(n=1))
field("uuid_of_known_safety", uuid.UUID, uuid.UUID(int=5, is_safe=uuid.SafeUUID.safe))


# --- what can't be stored ---

field("secret_str", pydantic.SecretStr, pydantic.SecretStr("s"), pydantic.SecretStr("**********"))
field("secret_bytes", pydantic.SecretBytes, pydantic.SecretBytes(b"s"))
field("secret_date", pydantic.Secret[dt.date], pydantic.Secret[dt.date](dt.date(2024, 1, 1)))
field("generator", t.Iterable[int], (n for n in (1, 2)))
field("function", Callable[[], int], lambda: 1)
field("stranger_in_any", t.Any, User(name="a", age=1))
field("factory_of_the_user", t.Any, defaultdict(lambda: 1, a=2))
