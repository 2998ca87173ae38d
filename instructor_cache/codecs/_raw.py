"""What a provider answered, kept beside a result: exact where its SDK is known, usable elsewhere.

A payload never causes an import: a class is looked for among the modules that are loaded.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from ._compare import difference
from ._inside import holds_one_shot
from ._kinds import class_of, is_class, is_dict, is_list
from ._plain import Plain, core_schema_of
from ._reach import SDKS, name_of

__all__ = ["Raw", "RawCompletion", "dump_raw", "is_sdk_class", "is_sdk_model", "load_raw"]

_log = logging.getLogger("instructor_cache")

# What SDKs set on an answer, with an underscore before it, from the headers of a response.
_NOTES = ("request_id", "workspace_id")


class RawCompletion(Mapping[str, Any]):
    """A completion whose class isn't loaded: `raw.usage.total_tokens` and `raw["usage"]` both work.

    A field that has the name of a method (`items`, `keys`) is reached as `raw["items"]`.
    """

    __slots__ = ("_content", "_request_id")

    def __init__(self, content: dict[str, Any], request_id: str | None = None) -> None:
        self._content = content
        self._request_id = request_id

    def __getitem__(self, name: str) -> Any:
        return _wrapped(self._content[name])

    def __getattr__(self, name: str) -> Any:
        if name in RawCompletion.__slots__ or name not in self._content:
            raise AttributeError(f"the stored completion has no {name!r}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"RawCompletion({self._content!r})"

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """The content as plain data, a copy of its own."""
        return cast("dict[str, Any]", json.loads(json.dumps(self._content)))

    def model_dump_json(self, **_: Any) -> str:
        """The content as JSON."""
        return json.dumps(self._content)


def _wrapped(value: Any) -> Any:
    if is_dict(value):
        return RawCompletion(value)
    return [_wrapped(item) for item in value] if is_list(value) else value


def is_sdk_model(value: Any) -> bool:
    """Whether the value is an answer of an SDK that is known here."""
    cls = class_of(value)
    return issubclass(cls, BaseModel) and is_sdk_class(cls)


def is_sdk_class(cls: type) -> bool:
    """Whether the class is one that a payload may name."""
    return _sdk_class(name_of(cls)) is cls


def _sdk_class(name: str) -> Any:
    module, _, qualname = name.partition(":")
    for package in SDKS:
        if module.startswith(f"{package}."):
            base = getattr(sys.modules.get(package), "BaseModel", None)
            cls = getattr(sys.modules.get(module), qualname, None)
            if is_class(base) and is_class(cls) and issubclass(cls, base):
                return cls
    return None


class Raw(NamedTuple):
    """A raw answer as it is stored: what is to be known about it, and one line of JSON."""

    head: dict[str, Any]
    body: bytes

    @property
    def is_exact(self) -> bool:
        """Whether it comes back as it was, if only its class is loaded."""
        return "class" in self.head


def dump_raw(value: Any) -> Raw:
    """The raw answer in the most exact of the forms that can hold it."""
    if is_sdk_model(value):
        for dump in (_dump_fields, _dump_content):
            raw = _verified(dump, value)
            if raw is not None:
                return raw
    return _dump_loosely(value)


def _verified(dump: Callable[[Any], Raw | None], value: Any) -> Raw | None:
    try:
        raw = dump(value)
        return raw if raw is not None and difference(load_raw(raw), value) is None else None
    except Exception:  # the form does not fit, and a looser one will
        return None


def load_raw(raw: Raw) -> Any:
    """The raw answer: of its class if that is loaded and known, else a `RawCompletion`."""
    head, body = raw
    if head.get("is_data"):
        return json.loads(body)
    cls = _sdk_class(head.get("class", ""))
    if cls is None:
        return RawCompletion(json.loads(body), head.get("request_id"))
    value = _construct(cls, body) if head.get("constructed") else _load_fields(cls, body)
    for name in _NOTES:
        if name in head:
            object.__setattr__(value, f"_{name}", head[name])
    return value


def _dump_fields(value: BaseModel) -> Raw | None:
    plain = _plain_of(type(value))
    return None if plain is None else Raw(_head(value), plain.dump(value))


def _load_fields(cls: Any, body: bytes) -> Any:
    plain = _plain_of(cls)
    try:
        return _construct(cls, body) if plain is None else plain.load(body)
    except ValueError:  # stored with an SDK of another version
        return _construct(cls, body)


@lru_cache(maxsize=64)
def _plain_of(cls: Any) -> Plain | None:
    """Ten times as fast as the SDK's `construct`; exact unless the provider has drifted."""
    try:
        return Plain(core_schema_of(cls))
    except Exception:  # NotPlain, or a class that its SDK has not completed
        return None


def _dump_content(value: BaseModel) -> Raw | None:
    if holds_one_shot(value):
        return None
    content = value.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return Raw(_head(value) | {"constructed": True}, _to_json(content))


def _construct(cls: Any, body: bytes) -> Any:
    return cls.construct(**json.loads(body))


def _head(value: BaseModel) -> dict[str, Any]:
    return {"class": name_of(class_of(value)), **_notes(value)}


def _notes(value: Any) -> dict[str, str | None]:
    held: dict[str, Any] = getattr(value, "__dict__", {})
    there = {name: held[f"_{name}"] for name in _NOTES if f"_{name}" in held}
    return {name: note for name, note in there.items() if isinstance(note, (str, NoneType))}


def _dump_loosely(value: Any) -> Raw:
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not holds_one_shot(value):
        try:
            content = dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
            return Raw(_notes(value), _to_json(content))
        except Exception as error:
            _log.debug("a %s could not be dumped: %s", type(value).__name__, type(error).__name__)
    return Raw({"is_data": True}, _to_json(_plain_data(value)))


def _to_json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _plain_data(value: Any) -> Any:
    try:
        data = json.loads(json.dumps(value, default=str))
    except (TypeError, ValueError, RecursionError):
        data = str(value)
    if difference(data, value) is not None:
        _log.warning(
            "The raw response is a %s, which can't be stored exactly; a hit will have the plain"
            " data of it. Pass raw_response=False to store none.",
            type(value).__name__,
        )
    return data
