"""instructor's hooks: what they are told of a hit, at no cost, and what we hear by them."""

from __future__ import annotations

import copy
from collections import deque
from functools import partial
from typing import Any, cast

from pydantic import BaseModel

from .._heard import new_ear
from ..codecs import RawCompletion
from ..events import logger

__all__ = ["completion_of", "overheard", "tell", "without_usage"]

_USAGES = ("usage", "usage_metadata")


def tell(hooks: Any, sent: dict[str, Any], answer: Any) -> None:
    """Emit ``completion:kwargs`` and, if the answer has kept it, ``completion:response``.

    The completion is a copy whose usage is zero, so that a hook that adds up tokens or money
    counts the call once; ``completion:usage`` is not emitted at all.
    """
    try:
        if _listens(hooks, "completion:kwargs"):
            hooks.emit_completion_arguments(**sent)
        completion = completion_of(answer) if _listens(hooks, "completion:response") else None
        if completion is not None:
            hooks.emit_completion_response(without_usage(completion))
    except Exception:  # a handler's, where warnings are errors: the answer is here
        logger.exception("a hook of instructor's raised on a hit")


def _listens(hooks: Any, name: str) -> bool:
    handlers: dict[Any, Any] = getattr(hooks, "_handlers", {})
    return any(there and hook.value == name for hook, there in handlers.items())


def completion_of(answer: Any) -> Any:
    """Give the provider's completion that an answer carries, or is."""
    attached = getattr(answer, "_raw_response", None)
    if attached is not None:
        return attached
    is_raw = isinstance(answer, RawCompletion) or hasattr(answer, "usage")
    return answer if is_raw else None


def without_usage(completion: Any) -> Any:
    """Give a copy in which every number of tokens is zero."""
    if isinstance(completion, RawCompletion):
        content = completion.model_dump()
        return RawCompletion(content | {n: _zero(content[n]) for n in _USAGES if n in content})
    free = copy.deepcopy(completion)
    for name in _USAGES:
        if getattr(free, name, None) is not None:
            object.__setattr__(free, name, _zero(getattr(free, name)))
    return free


def _zero(usage: Any) -> Any:
    if isinstance(usage, BaseModel):
        held = usage.__dict__ | (usage.__pydantic_extra__ or {})
        return usage.model_copy(update={name: _zero(held[name]) for name in held})
    if isinstance(usage, dict):
        counts = cast("dict[str, Any]", usage)
        return {name: _zero(count) for name, count in counts.items()}
    is_count = isinstance(usage, (int, float)) and not isinstance(usage, bool)
    return type(usage)(0) if is_count else usage


def overheard(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of a call, by which what the provider says is heard if it is judged."""
    hooks = kwargs.get("hooks")
    if hooks is None or (ear := new_ear()) is None:
        return kwargs
    own = copy.copy(hooks)
    own._handlers = type(hooks._handlers)(list, {n: [*each] for n, each in hooks._handlers.items()})
    own.on("completion:response", partial(_hear, ear))
    return {**kwargs, "hooks": own}


def _hear(ear: deque[Any], answer: Any) -> None:
    """Put an answer down in place of one that was asked for anew; of a stream what comes of it."""
    ear.clear()
    if not hasattr(answer, "_iterator"):
        ear.append(answer)
    else:  # as the streams of OpenAI, Anthropic and their like have
        answer._iterator = _Overheard(answer._iterator, ear)


class _Overheard:
    """The chunks of a stream, put down as they pass."""

    def __init__(self, chunks: Any, ear: deque[Any]) -> None:
        self._chunks, self._ear = chunks, ear

    def __iter__(self) -> _Overheard:
        return self

    def __next__(self) -> Any:
        self._ear.append(next(self._chunks))
        return self._ear[-1]

    def __aiter__(self) -> _Overheard:
        return self

    async def __anext__(self) -> Any:
        self._ear.append(await anext(self._chunks))
        return self._ear[-1]
