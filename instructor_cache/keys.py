"""From a call to its key: bind, write canonically, digest."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote

from ._binder import binder
from ._reserved import OWN
from .annotations import closure_of
from .canonical import NoForm, canonical
from .errors import UnkeyableArgument
from .identity import identity
from .source import source_version

Version = str | int | Callable[[Callable[..., Any]], str]

_REMEDIES = (
    "leave it out with ignore={name!r} if it does not change the answer, give key= a function of "
    "the call, or give its class a method __cache_key__() that returns plain data"
)


class Keys:
    """Makes the keys of one function's calls: ``prefix:function:schema:arguments``.

    The parts are escaped, so no ``:``, ``*`` or ``[`` in a prefix or version reaches another
    namespace or a Redis pattern.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        *,
        prefix: str = "instructor",
        version: Version = "",
        ignore: Collection[str] = (),
        key: Callable[..., Any] | None = None,
    ) -> None:
        self.function = identity(func)
        self.prefix, self.prefix_namespace = prefix, namespace(prefix)
        self._func, self._version = func, version
        self._remedies: str = getattr(func, "__cache_remedies__", _REMEDIES)
        self._captured = _captured(func)
        self.ignore = _checked(func, ignore)
        self.namespace = f"{self.prefix_namespace}{_escape(self.function)}:"
        self._key = key
        self._names, self._bind = binder(func, self.ignore)
        parameters = inspect.signature(func).parameters.values()
        self._has_constant_defaults = all(
            p.default is p.empty or _is_constant(p.default)
            for p in parameters
            if p.name not in self.ignore
        )
        options = (p.name for p in parameters if p.kind is p.VAR_KEYWORD)
        self._options = next((name for name in options if name in self._names), None)
        self._forms = [canonical(name) for name in self._names]

    def make(self, schema: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Give the key of a call.

        Raises UnkeyableArgument, and TypeError for arguments that the function does not take.
        """
        values = self._bind(*args, **kwargs)
        body = self._body(values) if self._key is None else self._chosen(args, kwargs)
        digest = hashlib.sha256(body).hexdigest()[:32]
        return f"{self.namespace}{self._edition}{schema}:{digest}"

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Give the arguments of a call by name, without those that are ignored.

        Each that the function takes by ``**`` has its own place. Raises as `make` does.
        """
        values = dict(zip(self._names, self._bind(*args, **kwargs), strict=True))
        taken: dict[str, Any] = {} if self._options is None else values.pop(self._options)
        return values | {f"**{n}" if n in values else n: v for n, v in taken.items()}

    @property
    def are_pure(self) -> bool:
        """Whether nothing but the arguments makes the key: no function, no mutable default."""
        return self._key is None and self._has_constant_defaults

    @cached_property
    def version(self) -> str:
        """The version as text; one that follows the source is read at the first call."""
        return str(self._version(self._func) if callable(self._version) else self._version)

    @cached_property
    def _edition(self) -> str:
        return "".join(f"{_escape(part)}~" for part in (self.version, self._captured) if part)

    def _body(self, values: tuple[Any, ...]) -> bytes:
        try:
            pairs = zip(self._forms, values, strict=True)
            return b"".join([form + canonical(value) for form, value in pairs])
        except Exception:  # once more, slowly, to say which
            for name, value in zip(self._names, values, strict=True):
                for each, item in value.items() if name == self._options else [(name, value)]:
                    _encode(item, self.function, each, self._remedies)
            raise

    def _chosen(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        assert self._key is not None
        try:
            chosen = self._key(*args, **kwargs)
        except Exception as error:
            raise UnkeyableArgument(
                f"{self.function}: its key function raised {type(error).__name__}; "
                f"it must give the key for every call",
                "key",
            ) from error
        return b"key" + _encode(chosen, self.function, "key")


def _captured(func: Callable[..., Any]) -> str:
    """A digest of what tells apart functions of one name: a lambda's code, a factory's constants.

    What a closure captured counts if it is a constant by nature. A list or a client may be what
    the function works with rather than what it is.
    """
    facts: list[str] = []
    for layer in _layers(func):
        captured = closure_of(layer).items()
        facts += sorted(f"{n}={canonical(v).hex()}" for n, v in captured if _is_constant(v))
        if getattr(layer, "__name__", "") == "<lambda>":
            facts.append(source_version(layer))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8] if facts else ""


def _layers(func: Any) -> Iterator[Any]:
    """The function and those that it wraps, one in the other; our own wrappers are none of it."""
    while func is not None:
        if not hasattr(func, "__cached__") or func.__cached__ is not func:
            yield func
        func = getattr(func, "__wrapped__", None)


def _is_constant(value: Any) -> bool:
    kind: Any = value.__class__
    if kind in (tuple, frozenset):
        return all(map(_is_constant, value))
    if isinstance(value, Enum):
        return _is_constant(value.value)
    return kind in (str, bytes, int, float, bool, type(None))


def _encode(value: Any, function: str, name: str, remedies: str = _REMEDIES) -> bytes:
    try:
        return canonical(value)
    except UnkeyableArgument:  # in the words of a class of its own
        raise
    except Exception as error:
        raise UnkeyableArgument(
            f"{function}: the argument {name!r} has no stable key: {_reason(error, value)}; "
            + remedies.format(name=(name,)),
            name,
        ) from error


def _reason(error: Exception, value: Any) -> str:
    if isinstance(error, NoForm):
        is_part = error.kind is not None and error.kind is not type(value)
        whole = f" (inside a value of type {type(value).__qualname__})" if is_part else ""
        return f"{error}{whole}"
    if isinstance(error, RecursionError):
        return "found a container that contains itself, or is nested too deeply"
    return f"reading it raised {type(error).__name__}"  # in its own code; the text may hold data


def namespace(prefix: str) -> str:
    """Give what all keys under the decorator's *prefix* begin with.

    Raises TypeError for what is no text, ValueError for what the cache uses itself.
    """
    if not isinstance(cast("object", prefix), str):
        raise TypeError(f"prefix is {prefix!r}; it must be text")
    if f"{prefix}:" in OWN:
        raise ValueError(f"prefix is {prefix!r}, which the cache uses itself; choose another one")
    return f"{_escape(prefix)}:"


def _escape(part: str) -> str:
    return quote(part, safe="<>@/+,=", errors="surrogatepass")


def _checked(func: Callable[..., Any], ignore: Collection[str]) -> tuple[str, ...]:
    if isinstance(ignore, str):
        raise TypeError(f"ignore is {ignore!r}; give a collection of names: ignore=({ignore!r},)")
    parameters = inspect.signature(func).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in ignore:
        if name not in parameters and not takes_any:
            raise ValueError(
                f"ignore names {name!r}, which {func.__qualname__} does not take; "
                f"it takes: {', '.join(parameters) or 'nothing'}"
            )
    return tuple(ignore)
