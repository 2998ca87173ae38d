"""The cached functions of one client: one for each response model, as many as there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, cast

from .._fork import renew_after_fork
from ..annotations import name_of
from ..codecs import own_class
from ..errors import UnstorableResultWarning
from ..events import Announcer, Observer
from ._answers import Kind, is_partial, kind_of
from ._request import Reader

__all__ = ["Functions"]

_MOST = 256
_REMEDIES = (
    "give plain data in its place, such as a list for a generator, or give its class a method "
    "__cache_key__() that returns some; ignore={name!r} leaves it out, so that one answer serves "
    "whatever it is"
)
_RAW = (None, "None", False, False, None)  # calls without a response model

Function = Callable[..., Any]
Known = tuple[Kind, Any]


class Functions:
    """Gives the function that answers all calls with one response model.

    Args:
        reader: Knows the client.
        decorate: Caches a function whose type of answer it is given, for a ttl if not for its own.
        observer: As for `instructor_cache`.

    Attributes:
        counted: Hits and misses of functions that there was no room for.
    """

    def __init__(
        self,
        reader: Reader,
        decorate: Callable[[Any, Any], Callable[[Function], Any]],
        observer: Observer | None,
    ) -> None:
        self._reader, self._decorate = reader, decorate
        self._announce = Announcer(reader.name, observer)
        self._known: OrderedDict[Any, Known | None] = OrderedDict()
        self.counted = (0, 0)
        self._renew()
        renew_after_fork(self, Functions._renew)
        self._known[_RAW] = self._made(None, False, None)  # which checks every option

    def _renew(self) -> None:
        self._lock = Lock()

    def all(self) -> list[Any]:
        """Give those that are known, first the one for calls without a response model."""
        with self._lock:
            there = dict(self._known)
        raw = there.pop(_RAW)
        return [known[1] for known in (raw, *there.values()) if known is not None]

    def find(self, response_model: Any, *, stream: bool, ttl: Any = None) -> Known | None:
        """Give how a response model is answered, and by which function; None if by none."""
        partial = is_partial(response_model)
        asked = own_class(response_model) if partial else response_model
        order = name_of(asked)  # to typing A | B is B | A
        name = asked, order, partial, stream, ttl
        with self._lock:
            if name not in self._known:
                self._known[name] = self._made_if_possible(response_model, stream, ttl)
                self._make_room()
            self._known.move_to_end(name)
            return self._known[name]

    def _make_room(self) -> None:
        if len(self._known) <= _MOST:
            return
        oldest = next(name for name in self._known if name != _RAW)
        if (known := self._known.pop(oldest)) is not None:
            hits, misses = known[1].cache_info()[:2]
            self.counted = self.counted[0] + hits, self.counted[1] + misses

    def _made_if_possible(self, response_model: Any, stream: bool, ttl: Any) -> Known | None:
        try:
            return self._made(response_model, stream, ttl)
        except Exception as error:  # the type's: options were checked at the beginning
            self.tell(response_model, error)
            return None

    def tell(self, response_model: Any, error: Exception) -> None:
        """Warn, once, that calls with this response model are not cached."""
        model = name_of(response_model)
        text = f"{self._announce.function}: calls with {model} are not cached: {error}"
        self._announce.warn_once(model, UnstorableResultWarning, text)

    def tell_changed(self, setting: str) -> None:
        """Tell that an answer is not stored because a *setting* changed; nothing for an empty one.

        Where each call changes it, none is ever cached.
        """
        if not setting:
            return
        text = (
            f"{self._announce.function}: found {setting}, which the client's function reads, "
            f"changed by a call, so that its answer is not stored; wanted settings that stay: keep "
            f"counts in a collections.Counter, and notes on calls in instructor's hooks"
        )
        self._announce("unstorable", error=UnstorableResultWarning(text))
        self._announce.warn_once(setting, UnstorableResultWarning, text)

    def _made(self, response_model: Any, stream: bool, ttl: Any) -> Known | None:
        reader = self._reader
        way = {"is_parallel": reader.is_parallel, "is_async": reader.is_async}
        kind = kind_of(response_model, stream=stream, **way)
        if kind is None:
            return None
        decorate = self._decorate(kind.returns(is_async=reader.is_async), ttl)
        return kind, decorate(self._function())

    def _function(self) -> Function:
        """What is cached; its parameters are what the keys are made of."""

        def ask(
            _question: Any,
            /,
            *,
            _client: Any,
            messages: Any = None,
            model: Any = None,
            response_model: Any = None,
            context: Any = None,
            strict: Any = True,
            **settings: Any,
        ) -> Any:
            return _question.settle(_question.ask(_question.request.kwargs))

        async def ask_async(
            _question: Any,
            /,
            *,
            _client: Any,
            messages: Any = None,
            model: Any = None,
            response_model: Any = None,
            context: Any = None,
            strict: Any = True,
            **settings: Any,
        ) -> Any:
            return _question.settle(await _question.ask(_question.request.kwargs))

        function: Any = ask_async if self._reader.is_async else ask
        function.__cache_remedies__ = _REMEDIES
        function.__module__, _, function.__qualname__ = self._reader.name.partition(".")
        return cast("Function", function)
