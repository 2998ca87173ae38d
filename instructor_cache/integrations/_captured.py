"""What a function of instructor's has captured, or reads: clients that it asks, and settings.

What nobody knows may be anything, another endpoint or another model: then nothing is told apart.
"""

from __future__ import annotations

import types
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from ..annotations import closure_of
from ..canonical import canonical
from ..identity import identity
from ..source import code_version
from ._globals import globals_of
from ._litellm import settings_of_litellm
from ._passed import is_closed, is_passed
from ._sdk import client_in, home_of, is_providers, is_sdk, kind_of, overridden

__all__ = ["Captured", "captured_by"]

# Of instructor's own layers: what is wrapped, and a random number for each client.
_WRAPPED = frozenset({"func", "cache_scope"})
_MOST = 10_000
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_Memo: Any = type(lru_cache(lambda: None))


@dataclass(slots=True)
class Captured:
    """What was found.

    Attributes:
        given: The client that instructor was given.
        clients: Those that are asked.
        own: What instructor itself keeps: mode, provider, default_model.
        settings: Number of the layer, name and value of everything else.
        unread: What it was that nobody knows; empty for nothing.
    """

    given: Any
    clients: list[Any] = field(default_factory=list[Any])
    own: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: list[tuple[int, str, Any]] = field(default_factory=list[tuple[int, str, Any]])
    unread: str = ""
    _seen: set[int] = field(default_factory=set[int])
    _depth: int = 0

    def layer(self, func: Any) -> None:
        """Read a function, and what it wraps."""
        while func is not None and id(func) not in self._seen:
            self._seen.add(id(func))
            self._depth += 1
            func = self._inner(func)

    def _inner(self, func: Any) -> Any:
        """Read one layer; give the next one, None where all that follows is a provider's own."""
        if isinstance(func, partial):
            self._notes(func.keywords)
            self._notes({str(n): value for n, value in enumerate(func.args)})
            return func.func
        if isinstance(func, types.MethodType):
            return self._method(func)
        if home_of(func) == "instructor":
            return self._instructors(func)
        if home_of(func) != "functools" and is_providers(func):
            return None
        self._function(func)
        return None

    def _instructors(self, func: Any) -> Any:
        captured = closure_of(func)
        for name in ("mode", "provider", "default_model"):
            if name in captured:
                self.own.setdefault(name, captured.pop(name))
        self._notes({name: each for name, each in captured.items() if name not in _WRAPPED})
        wrapped = getattr(func, "__wrapped__", None)
        return captured.get("func") if wrapped is None else wrapped

    def _method(self, method: Any) -> None:
        owner = method.__self__
        if overridden(kind_of(owner)):
            self._unknown(f"a {type(owner).__name__} with methods of its own")
        if (client := client_in(owner)) is not None:
            self._client(client)
        elif self._is_given(owner) or (is_providers(owner) and self.given is not None):
            self._client(self.given)
        else:
            self._unknown(f"{identity(method.__func__)}, a method of what nobody knows")
        name = method.__func__.__qualname__.replace("Async", "")  # clients of both colours share
        self.settings.append((self._depth, "method", name))

    def _function(self, func: Any) -> None:
        """A function that is not instructor's, by all that it reads."""
        if not isinstance(func, types.FunctionType):
            self._note(identity(type(func)), func)
            return
        self.settings.append((self._depth, "function", identity(func)))
        if home_of(func) == "litellm":
            self._notes(settings_of_litellm())
            return
        if not is_closed(func):
            self.settings.append((self._depth, "code", code_version(func)))
            self._notes(globals_of(func))
            self._notes({f"default {n}": each for n, each in enumerate(func.__defaults__ or ())})
            self._notes(func.__kwdefaults__ or {})
        self._notes(closure_of(func))

    def _notes(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self._note(name, value)

    def _note(self, name: str, value: Any) -> None:
        if self._is_given(value) or is_sdk(value):
            self._client(value)
        elif isinstance(value, (types.MethodType, types.FunctionType, partial)):
            self.settings.append((self._depth, name, "function"))
            self.layer(value)
        elif isinstance(value, _Memo):
            self._note(name, value.__wrapped__)
        elif isinstance(value, ContextVar):
            self._note(name, value.get(None))  # pyright: ignore[reportUnknownMemberType]
        elif not is_passed(value):
            self._value(name, value)

    def _value(self, name: str, value: Any) -> None:
        if not _is_light(value):
            self._unknown(f"{name}, a {type(value).__name__} of more than {_MOST} things")
        elif _is_known(value):
            self.settings.append((self._depth, name, value))
        elif (client := client_in(value)) is not None:
            self._client(client)
        elif isinstance(value, type) and (is_providers(value) or is_closed(value)):
            self.settings.append((self._depth, name, identity(value)))
        else:
            self._unknown(f"{name}, a {type(value).__name__}")

    def _is_given(self, value: Any) -> bool:
        return value is not None and value is self.given

    def _client(self, client: Any) -> None:
        if not any(client is each for each in self.clients):
            self.clients.append(client)

    def _unknown(self, what: str) -> None:
        self.unread = self.unread or what


def captured_by(create: Any, client: Any) -> Captured:
    """Read *create*, the function of a client of instructor's that was given *client*."""
    found = Captured(client)
    found.layer(create)
    is_new = client is not None and not any(client is each for each in found.clients)
    if is_new and (is_sdk(client) or is_providers(client)):
        found.clients.append(client)
    elif is_new and not found.clients:
        found.unread = found.unread or f"a {type(client).__name__}, which nobody knows"
    return found


def _is_light(value: Any) -> bool:
    """Whether there is so little in it that it can be read for every call, hits included."""
    left, parts = _MOST, [value]
    while parts and left >= 0:
        part = parts.pop()
        if issubclass(kind_of(part), _CONTAINERS):
            left -= len(part)
            parts.extend(part.values() if issubclass(kind_of(part), dict) else part)
    return left >= 0


def _is_known(value: Any) -> bool:
    """Whether it has a form by which every process knows it."""
    try:
        canonical(value)
    except Exception:  # whatever its own code raises
        return False
    return True
