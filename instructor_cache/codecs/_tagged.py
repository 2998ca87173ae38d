"""Any value as JSON that says of each part what it is, for the results that plain JSON can't hold.

None, booleans, text, ordinary numbers and lists are themselves; all else is `{tag: body}`.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime, time
from math import isfinite
from types import NoneType
from typing import Any, NamedTuple

from ..errors import Unstorable
from . import _objects
from ._atoms import ATOMS, Atom
from ._compare import difference
from ._kinds import class_of, is_dict, is_list
from ._reach import Reach
from ._state import attributes, cached_names, place_of

__all__ = ["Tagged"]


class Tagged:
    """Values to and from tagged JSON. It finds no class but those in reach."""

    def __init__(self, reach: Reach, *, secrets: bool = False) -> None:
        self.reach = reach
        self.secrets = secrets

    def encode(self, value: Any, where: str) -> bytes:
        """One line of JSON; Unstorable names the path of what it can't hold."""
        data = self.dump(value, where)
        try:
            return _to_json(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # lone surrogates
            return _to_json(data, ensure_ascii=True).encode()

    def decode(self, line: bytes) -> Any:
        """The value that the line holds. Any exception at all may come of a damaged line."""
        return self.load(json.loads(line.decode()))

    def dump(self, value: Any, where: str) -> Any:
        """The value as JSON can hold it."""
        cls = class_of(value)
        if _is_itself(value, cls):
            return value
        if cls is list:
            return self.dump_all(value, where)
        if cls in ATOMS:
            return {ATOMS[cls].tag: _dump_atom(ATOMS[cls], value, where)}
        if cls in _CONTAINERS:
            form = _CONTAINERS[cls]
            return {form.tag: form.dump(self, value, where)}
        tag, body = _objects.dump(self, value, where)
        return {tag: body}

    def dump_all(self, values: Iterable[Any], where: str) -> list[Any]:
        """The values as a JSON list."""
        return [self.dump(value, f"{where}[{index}]") for index, value in enumerate(values)]

    def dump_dict(self, items: dict[Any, Any], where: str) -> Any:
        """A dictionary as a JSON object if all its keys are text, as a list of pairs if not.

        Its keys are data, so a path tells their place rather than themselves.
        """
        places = (f"{where}[key {index}]" for index in range(len(items)))
        entries = zip(items.items(), places, strict=True)
        if all(type(key) is str for key in items):
            return {key: self.dump(value, place) for (key, value), place in entries}
        return [[self.dump(key, place), self.dump(value, place)] for (key, value), place in entries]

    def dump_attributes(self, value: Any, where: str) -> dict[str, Any]:
        """What an object holds as a JSON object, less the cached values that can't be stored."""
        cls, held = class_of(value), attributes(value)
        cached = cached_names(cls) & held.keys()
        kept = {name: item for name, item in held.items() if name not in cached}
        dumped = self.dump_fields(cls, kept, where)
        for name in held.keys() & cached:
            dumped |= self._dump_cached(name, held[name])
        return dumped

    def _dump_cached(self, name: str, value: Any) -> dict[str, Any]:
        try:
            data = self.dump(value, name)
            return {name: data} if difference(self.load(data), value) is None else {}
        except Exception:  # its class makes it again when it is asked for
            return {}

    def dump_fields(self, cls: type[Any], held: dict[str, Any], where: str) -> dict[str, Any]:
        """Named attributes of that class as a JSON object."""
        return {
            name: self.dump(value, where + place_of(cls, held, name))
            for name, value in held.items()
        }

    def load(self, data: Any) -> Any:
        """The value that `dump` made the data of."""
        if is_list(data):
            return [self.load(item) for item in data]
        if not is_dict(data):
            return data
        ((tag, body),) = data.items()
        if tag in _ATOM_LOADS:
            return _ATOM_LOADS[tag](body)
        if tag in _CONTAINER_LOADS:
            return _CONTAINER_LOADS[tag](self, body)
        return _objects.load(self, tag, body)

    def load_dict(self, data: Any) -> dict[Any, Any]:
        """The dictionary that `dump_dict` made the data of."""
        if is_dict(data):
            return {key: self.load(value) for key, value in data.items()}
        return {self.load(key): self.load(value) for key, value in data}

    def load_fields(self, data: Any) -> dict[str, Any]:
        """The attributes that `dump_fields` made the data of."""
        if not is_dict(data):
            raise TypeError("attributes are a JSON object")
        return {name: self.load(value) for name, value in data.items()}


def _is_itself(value: Any, cls: type[Any]) -> bool:
    if cls is int:
        return value in _INTEGERS
    return cls in _THEMSELVES or (cls is float and isfinite(value))


_INTEGERS = range(-(2**63), 2**63)  # what every JSON reader takes
_THEMSELVES = frozenset({str, bool, NoneType})


def _dump_atom(atom: Atom, value: Any, where: str) -> Any:
    try:
        return atom.dump(value)
    except ValueError as error:
        raise Unstorable(f"{where}: {error}") from error


def _to_json(data: Any, *, ensure_ascii: bool) -> str:
    return json.dumps(data, ensure_ascii=ensure_ascii, allow_nan=False, separators=(",", ":"))


class _Form(NamedTuple):
    """How a container of one type is written, and read back."""

    tag: str
    dump: Callable[[Tagged, Any, str], Any]
    load: Callable[[Tagged, Any], Any]


def _load_items(container: Callable[[Iterable[Any]], Any]) -> Callable[[Tagged, Any], Any]:
    def load(tagged: Tagged, body: list[Any]) -> Any:
        return container(tagged.load(item) for item in body)

    return load


def _load_ordered_dict(tagged: Tagged, body: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(tagged.load_dict(body))


def _load_counter(tagged: Tagged, body: Any) -> Counter[Any]:
    return Counter(tagged.load_dict(body))


def _dump_deque(tagged: Tagged, value: deque[Any], where: str) -> list[Any]:
    return [value.maxlen, tagged.dump_all(value, where)]


def _load_deque(tagged: Tagged, body: Any) -> deque[Any]:
    maxlen, items = body
    return deque(tagged.load(items), maxlen)


_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "none": None,
    **{cls.__name__: cls for cls in (list, dict, set, frozenset, tuple)},
    **{cls.__name__: cls for cls in (str, int, float, bool, bytes, deque, Counter)},
}


def _dump_defaultdict(tagged: Tagged, value: defaultdict[Any, Any], where: str) -> list[Any]:
    for name, factory in _FACTORIES.items():
        if factory is value.default_factory:
            return [name, tagged.dump_dict(value, where)]
    raise Unstorable(
        f"{where}: found a defaultdict whose factory is a {type(value.default_factory).__name__},"
        " wanted a builtin type or None; make it a dict, or set default_factory to None when it is"
        " full"
    )


def _load_defaultdict(tagged: Tagged, body: Any) -> defaultdict[Any, Any]:
    name, items = body
    return defaultdict(_FACTORIES[name], tagged.load_dict(items))


def _dump_moment(tagged: Tagged, value: datetime | time, where: str) -> list[Any]:
    zone = tagged.dump(value.tzinfo, f"{where}.tzinfo")
    return [value.replace(tzinfo=None).isoformat(), value.fold, zone]


def _load_datetime(tagged: Tagged, body: Any) -> datetime:
    text, fold, zone = body
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=tagged.load(zone))


def _load_time(tagged: Tagged, body: Any) -> time:
    text, fold, zone = body
    return time.fromisoformat(text).replace(fold=fold, tzinfo=tagged.load(zone))


_CONTAINERS: dict[type[Any], _Form] = {
    tuple: _Form("tuple", Tagged.dump_all, _load_items(tuple)),
    set: _Form("set", Tagged.dump_all, _load_items(set)),
    frozenset: _Form("frozenset", Tagged.dump_all, _load_items(frozenset)),
    deque: _Form("deque", _dump_deque, _load_deque),
    dict: _Form("dict", Tagged.dump_dict, Tagged.load_dict),
    OrderedDict: _Form("ordered_dict", Tagged.dump_dict, _load_ordered_dict),
    Counter: _Form("counter", Tagged.dump_dict, _load_counter),
    defaultdict: _Form("defaultdict", _dump_defaultdict, _load_defaultdict),
    datetime: _Form("datetime", _dump_moment, _load_datetime),
    time: _Form("time", _dump_moment, _load_time),
}
_ATOM_LOADS = {atom.tag: atom.load for atom in ATOMS.values()}
_CONTAINER_LOADS = {form.tag: form.load for form in _CONTAINERS.values()}
