"""One instructor client's calls: from arguments to an answer, from the cache if it is there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from .._raws import without_stream
from ..cached import CacheInfo
from ..lifetimes import seconds
from ._begun import begun, begun_later
from ._functions import Functions
from ._hooks import overheard, tell
from ._request import Reader, Request

__all__ = ["ClientCache"]


@dataclass(slots=True)
class Question:
    """One call on its way.

    Attributes:
        reader: Knows the client.
        functions: Where that is told which is found out about it.
        function: The cached function that answers it.
        is_stream: Whether the answer comes item by item.
        is_anew: Whether it is put once more, for the client had changed when it was answered.
        is_asked: Whether the provider was asked.
    """

    reader: Reader
    functions: Functions
    request: Request
    function: Any
    is_stream: bool
    is_anew: bool = False
    is_asked: bool = False

    def put(self) -> Any:
        """Call the cached function; instructor's hooks hear of a hit."""
        try:
            answer = self.function(self, **self.request.counted)
            return begun(answer, self._tell) if self.is_stream else self._tell(answer)
        except Moved as moved:
            if moved.question is self:
                return moved.answer
        again = self._anew()
        return self.ask(self.request.kwargs) if again is None else again.put()

    async def put_later(self) -> Any:
        """Do the same for a coroutine function."""
        try:
            answer = await self.function(self, **self.request.counted)
            return await begun_later(answer, self._tell) if self.is_stream else self._tell(answer)
        except Moved as moved:
            if moved.question is self:
                return moved.answer
        again = self._anew()
        return await (self.ask(self.request.kwargs) if again is None else again.put_later())

    def _anew(self) -> Question | None:
        """Give the call as it is by now, for all that waited for the same one to make it once.

        None where it was put anew already: the client may change with every call.
        """
        with suppress(Exception):  # a client that can't be read any more
            if not self.is_anew:
                return replace(self, request=self.reader.read(self.request.kwargs), is_anew=True)
        return None

    def ask(self, kwargs: dict[str, Any]) -> Any:
        """Call instructor's function."""
        self.is_asked = True
        return self.reader.create(**overheard(kwargs))

    def settle(self, answer: Any) -> Any:
        """Give *answer* if it may be stored: if it was asked on the account that is in the key."""
        if self.reader.has_moved(self.request):
            self.functions.tell_changed(self.reader.changed(self.request))
            raise Moved(self, answer)
        return without_stream(answer)

    def _tell(self, answer: Any) -> Any:
        if not self.is_asked:
            tell(self.request.hooks, self.request.sent, answer)
        return answer


class Moved(Exception):
    """The client asked elsewhere, or for somebody else, than the key says: nothing to store."""

    def __init__(self, question: Question, answer: Any) -> None:
        super().__init__("the client's endpoint or credentials changed during a call")
        self.question, self.answer = question, answer


class ClientCache:
    """What is cached of a client: ``client.cache`` on what `cache_client` gives.

    On an async client `cache_clear` is a coroutine.
    """

    def __init__(self, reader: Reader, functions: Functions) -> None:
        self._reader, self._functions = reader, functions

    def cache_info(self) -> CacheInfo:
        """Count this client's hits and misses since the start or the last `cache_clear`."""
        infos: list[CacheInfo] = [function.cache_info() for function in self._functions.all()]
        hits, misses = self._functions.counted
        hits += sum(info.hits for info in infos)
        misses += sum(info.misses for info in infos)
        return infos[0]._replace(hits=hits, misses=misses)

    def cache_clear(self) -> Any:
        """Forget all answers of this namespace and prefix, those of other clients included."""
        self._functions.counted = (0, 0)
        return self._clear_later() if self._reader.is_async else self._clear()

    def _clear(self) -> None:
        for function in self._functions.all():
            function.cache_clear()

    async def _clear_later(self) -> None:
        for function in self._functions.all():
            await function.cache_clear()

    def question(self, kwargs: dict[str, Any]) -> Question | None:
        """Give the call with these arguments; None for one whose answer can't be kept."""
        response_model = kwargs.get("response_model")
        try:
            ttl = seconds(kwargs.get("cache_ttl"), "cache_ttl")
            known = self._functions.find(response_model, stream=bool(kwargs.get("stream")), ttl=ttl)
            if known is None:
                return None
            kind, function = known
            if response_model is not None:
                kwargs = {**kwargs, "response_model": kind.response_model}
            request = self._reader.read(kwargs)
            is_stream = kind.form == "items"
            return Question(self._reader, self._functions, request, function, is_stream)
        except Exception as error:  # a type that has no hash, a client that can't be read
            self._functions.tell(response_model, error)
            return None
