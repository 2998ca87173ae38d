"""One instructor client's calls, each answered by a cached function of its response model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from .._fork import renew_after_fork
from ..cached import CacheInfo
from ..errors import UnstorableResultWarning
from ..events import Announcer
from ._answers import Kind, is_partial, kind_of, original_of, without_stream
from ._begun import begun, begun_later
from ._hooks import tell
from ._request import Reader, Request

__all__ = ["ClientCache", "Question"]

_MOST = 256  # response models

Function = Callable[..., Any]


@dataclass(slots=True)
class Question:
    """One call on its way.

    Attributes:
        function: The cached function that answers it.
        is_stream: Whether the answer comes item by item.
        is_asked: Whether the provider was asked.
    """

    request: Request
    function: Function
    is_stream: bool
    is_asked: bool = False

    def put(self) -> Any:
        """Call the cached function; instructor's hooks hear of a hit."""
        answer = self.function(self, **self.request.counted)
        return begun(answer, self._tell) if self.is_stream else self._tell(answer)

    async def put_later(self) -> Any:
        """Do the same for a coroutine function."""
        answer = await self.function(self, **self.request.counted)
        return begun_later(answer, self._tell) if self.is_stream else self._tell(answer)

    def _tell(self, answer: Any) -> Any:
        if not self.is_asked:
            tell(self.request.hooks, self.request.sent, answer)
        return answer


class ClientCache:
    """What is cached of a client: ``client.cache`` on what `cache_client` gives.

    On an async client `cache_clear` is a coroutine.

    Args:
        reader: Reads the calls.
        decorate: Caches a function whose type of answer it is given.
    """

    def __init__(
        self,
        reader: Reader,
        decorate: Callable[[Any], Callable[[Function], Any]],
        *,
        is_async: bool,
    ) -> None:
        self._reader, self._decorate, self._is_async = reader, decorate, is_async
        self._announce = Announcer(reader.name)
        self._functions: OrderedDict[Any, tuple[Kind, Any] | None] = OrderedDict()
        self._renew()
        renew_after_fork(self, ClientCache._renew)
        self._gone = (0, 0)
        self._known(None, stream=False)  # which checks every option

    def _renew(self) -> None:
        self._lock = Lock()

    def cache_info(self) -> CacheInfo:
        """Count this client's hits and misses since the start or the last `cache_clear`."""
        infos = [function.cache_info() for function in self._all()]
        hits, misses = (sum(info[n] for info in infos) + self._gone[n] for n in (0, 1))
        return infos[0]._replace(hits=hits, misses=misses)

    def cache_clear(self) -> Any:
        """Forget all answers of this namespace and prefix, those of other clients included."""
        self._gone = (0, 0)
        return self._clear_in_turn() if self._is_async else self._clear()

    def _clear(self) -> None:
        for function in self._all():
            function.cache_clear()

    async def _clear_in_turn(self) -> None:
        for function in self._all():
            await function.cache_clear()

    def _all(self) -> list[Any]:
        with self._lock:
            return [known[1] for known in self._functions.values() if known is not None]

    # -- calls -----------------------------------------------------------------------------

    def question(self, kwargs: dict[str, Any]) -> Question | None:
        """Give the call with these arguments; None for one whose answer can't be kept."""
        stream = bool(kwargs.get("stream"))
        known = self._known(kwargs.get("response_model"), stream=stream)
        if known is None:
            return None
        kind, function = known
        if kind.response_model is not None:
            kwargs = {**kwargs, "response_model": kind.response_model}
        return Question(self._reader.read(kwargs), function, kind.form == "items")

    def _known(self, response_model: Any, *, stream: bool) -> tuple[Kind, Any] | None:
        """How a response model is answered, and by which function: the same for all its calls."""
        partial = is_partial(response_model)
        name = original_of(response_model) if partial else response_model, partial, stream
        with self._lock:
            try:
                known = self._functions[name]
                self._functions.move_to_end(name)
            except KeyError:
                known = self._functions[name] = self._made(response_model, stream)
                self._make_room()
            except TypeError:  # it has no hash
                known = None
        return known

    def _make_room(self) -> None:
        if len(self._functions) <= _MOST:
            return
        oldest = next(name for name in self._functions if name != (None, False, False))
        if (known := self._functions.pop(oldest)) is not None:
            hits, misses = known[1].cache_info()[:2]
            self._gone = self._gone[0] + hits, self._gone[1] + misses

    def _made(self, response_model: Any, stream: bool) -> tuple[Kind, Any] | None:
        is_parallel = self._reader.is_parallel
        kind = kind_of(
            response_model, stream=stream, is_parallel=is_parallel, is_async=self._is_async
        )
        if kind is None:
            return None
        decorate = self._decorate(kind.returns(is_async=self._is_async))
        try:
            return kind, decorate(self._function(kind))
        except ValueError as error:  # of the type; options were checked with the first one
            if response_model is None:
                raise
            self._announce.warn_once(
                str(response_model), UnstorableResultWarning, f"not cached: {error}"
            )
            return None

    def _function(self, kind: Kind) -> Function:
        """What is cached; its parameters are what the keys are made of."""
        create = self._reader.create

        def ask(
            question: Question,
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
            question.is_asked = True
            return without_stream(create(**question.request.kwargs))

        async def ask_async(
            question: Question,
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
            question.is_asked = True
            return without_stream(await create(**question.request.kwargs))

        function = ask_async if self._is_async else ask
        function.__module__, _, function.__qualname__ = self._reader.name.partition(".")
        return function
