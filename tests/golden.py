"""Calls whose keys may never change by accident; also run as a script in other processes."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
import zoneinfo
from collections import OrderedDict, deque
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from functools import partial
from ipaddress import ip_address
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple, Optional

import pydantic
from pydantic import BaseModel, Field

from instructor_cache import MemoryCache, instructor_cache


class Colour(Enum):
    RED = "red"
    BLUE = ("b", 1)


class Access(Flag):
    READ = 1
    WRITE = 2


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: float = 0.5


@dataclass
class Query:
    text: str
    tags: frozenset[str] = frozenset({"a", "b"})


class Prompt(str):
    pass


class Tenant:
    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name


class User(BaseModel):
    """A person."""

    name: str = Field(pattern="^[A-Z]")
    age: int | None = None
    tags: set[str] = {"x", "y", "z"}
    _note: str = pydantic.PrivateAttr("")


class Box(BaseModel):
    users: list[User]
    kind: Literal["a", "b"] = "a"


class Thing(BaseModel):
    what: Any
    more: dict[str, list[Any]] = {}


def helper(x: int) -> int:
    return x


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "one": 1,
    "one_float": 1.0,
    "zero": 0.0,
    "minus_zero": -0.0,
    "nan": float("nan"),
    "inf": float("inf"),
    "big": 10**5000,
    "complex": 1 - 2j,
    "text": "naïve ☃ \x00 :*[]",
    "surrogate": "\ud800",
    "bytes": bytes(range(256)),
    "bytearray": bytearray(b"x"),
    "decimal": Decimal("1.10"),
    "fraction": Fraction(1, 3),
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, 1, 2, 3, 4),
    "fold": dt.datetime(2024, 10, 27, 2, 30, fold=1),
    "utc": dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc),
    "zone": dt.datetime(2024, 2, 29, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "time": dt.time(1, 2),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "uuid": uuid.UUID(int=5),
    "path": Path("a/b"),
    "windows_path": PureWindowsPath("a/b"),
    "pattern": re.compile("a+", re.I),
    "ip": ip_address("::1"),
    "tuple": (1, ("2",)),
    "list": [1, ["2"]],
    "set": {"b", "a", "c"},
    "frozenset": frozenset({1, "1", None}),
    "dict": {"b": 1, "a": {2: "x", None: ()}},
    "ordered": OrderedDict(b=1, a=2),
    "deque": deque([1, 2], maxlen=3),
    "range": range(1, 10, 2),
    "enum": Colour.BLUE,
    "flags": Access.READ | Access.WRITE,
    "int_enum": Level.LOW,
    "named_tuple": Point(1),
    "dataclass": Query("q"),
    "subclass": Prompt("p"),
    "own_key": Tenant("acme"),
    "model": User(name="Ada"),
    "nested": Box(users=[User(name="Ada", age=3)]),
    "secret": pydantic.SecretStr("s"),
    "model_class": User,
    "type": dict,
    "function": helper,
    "partial": partial(helper, 1),
    "generic": list[User],
    "optional": Optional[int],
    "ellipsis": ...,
    "any": Any,
    "of_anything": Thing,
}


@instructor_cache(MemoryCache(), prefix="golden")
def extract(value: Any, *rest: Any, mode: str = "fast", **options: Any) -> Box:
    raise NotImplementedError


def keys() -> dict[str, str]:
    named = {name: extract.cache_key(value) for name, value in VALUES.items()}
    return {**named, "rest": extract.cache_key(1, 2, 3, b=1, a=2)}


if __name__ == "__main__":
    import golden  # the keys of the module, not of the script: their names are the same here

    print(json.dumps(golden.keys(), indent=1))
