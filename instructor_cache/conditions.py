"""Ready conditions for ``cache_if``: answers that are not worth keeping.

They look at the provider's own answer: at the result if it is that, at the one that instructor
attached to it (``_raw_response``), and at those in a tuple, list or stream. Where there is none,
they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction, signature
from typing import Any, Protocol, Union

__all__ = [
    "Condition",
    "Timed",
    "check_condition",
    "holds",
    "min_seconds",
    "not_refused",
    "not_truncated",
]

_DEEPEST = 3  # containers in one another that are looked into

# The words of providers, in small letters.
_TRUNCATED = {
    *("length", "max_tokens", "model_length", "max_output_tokens", "incomplete", "error_limit"),
    "model_context_window_exceeded",
}
_REFUSED = {
    *("content_filter", "content_filtered", "refusal", "guardrail_intervened"),
    *("safety", "image_safety", "prohibited_content", "blocklist", "recitation", "spii"),
}

# What a result of theirs is, is the provider's answer; a user's own model may have a `status` too.
_SDKS = {
    *("openai", "anthropic", "google", "vertexai", "groq", "cerebras", "mistralai", "cohere"),
    *("litellm", "together", "writerai", "fireworks", "xai_sdk"),
}


class Timed(Protocol):
    """A condition that asks for the seconds that a call took, and not for its result."""

    def took(self, seconds: float, /) -> bool:
        """Tell whether the answer to a call that took so long may be stored."""
        ...


Condition = Union[Callable[[Any], bool], Timed]


def not_truncated(result: Any) -> bool:
    """Tell whether the answer is whole, and was not cut off at the limit of its tokens."""
    return all(_TRUNCATED.isdisjoint(_endings(raw)) for raw in _raws(result))


def not_refused(result: Any) -> bool:
    """Tell whether the model answered, and neither it nor a filter refused to."""
    return not any(_refusals(raw) for raw in _raws(result))


def min_seconds(least: float) -> Timed:
    """Give the condition that a call took *least* seconds: none of a model's is faster.

    What comes faster than that may be an error page, or a mock that was left in.
    """
    is_number = isinstance(least, (int, float)) and not isinstance(least, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_number or not 0 <= least < math.inf:
        raise ValueError(
            f"min_seconds is {least!r}; it must be seconds, 0 or more, such as min_seconds(0.05)"
        )
    return _MinSeconds(least)


@dataclass(frozen=True, slots=True)
class _MinSeconds:
    least: float

    def took(self, seconds: float, /) -> bool:
        return seconds >= self.least

    def __repr__(self) -> str:
        return f"min_seconds({self.least:g})"


def holds(condition: Condition, result: Any, seconds: float) -> bool:
    """Tell whether *condition* admits the *result* of a call that took so many *seconds*."""
    one: Any = condition
    return bool(one.took(seconds) if _is_timed(one) else one(result))


def _is_timed(condition: Any) -> bool:
    """Asks the class: an instance may answer yes to everything, as a mock does."""
    return hasattr(_class_of(condition), "took")


def check_condition(condition: Any) -> None:
    """Raise TypeError for what can't be one of ``cache_if``."""
    wanted = (
        "give a plain callable of the result, or several: cache_if=(not_truncated, not_refused)"
    )
    if condition is min_seconds:
        raise TypeError("cache_if is min_seconds itself; say how many: min_seconds(0.05)")
    if _is_timed(condition):
        return
    if not callable(condition):
        raise TypeError(f"cache_if is {condition!r}; it must be a callable of the result; {wanted}")
    if iscoroutinefunction(condition) or iscoroutinefunction(_class_of(condition).__call__):
        raise TypeError(f"cache_if is the coroutine function {condition!r}; {wanted}")
    try:
        takes = signature(condition)
    except (ValueError, TypeError):  # written in C, and silent about it
        return
    try:
        takes.bind(None)
    except TypeError as error:
        raise TypeError(f"cache_if is {condition!r}, called with the result: {error}") from None


# -- the provider's answers in a result ------------------------------------------------------------


def _raws(result: Any, depth: int = 0) -> Iterator[Any]:
    """The provider's answers: the result itself, what is attached to it, those of its items."""
    attached = _get(result, "_raw_response")
    if attached is not None:
        yield attached
    if _is_raw(result):
        yield result
    elif depth < _DEEPEST:
        for item in _items(result):
            yield from _raws(item, depth + 1)


def _is_raw(result: Any) -> bool:
    kind = _class_of(result)
    roots = {cls.__module__.partition(".")[0] for cls in kind.__mro__}
    return not roots.isdisjoint(_SDKS) or kind.__name__ == "RawCompletion"


def _class_of(value: Any) -> Any:
    return type(value)  # pyright: ignore[reportUnknownVariableType]


def _items(thing: Any) -> Iterable[Any]:
    """What a container holds; nothing for anything else."""
    kind = _class_of(thing)
    if issubclass(kind, dict):
        values: Iterable[Any] = thing.values()
        return values
    return thing if issubclass(kind, Sequence) and not issubclass(kind, (str, bytes)) else ()


def _get(thing: Any, name: str) -> Any:
    """What an object or a mapping has under a name; None for nothing."""
    try:
        if hasattr(_class_of(thing), "keys"):
            return thing.get(name)
        return getattr(thing, name, None)
    except Exception:  # of its own code
        return None


def _list(thing: Any, name: str) -> list[Any]:
    found = _get(thing, name)
    return list(found) if isinstance(found, (list, tuple)) else []  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]


# -- how an answer ended ---------------------------------------------------------------------------


def _endings(raw: Any) -> set[str]:
    """The words in which providers say why an answer ended."""
    parts = [raw, *_list(raw, "choices"), *_list(raw, "candidates")]
    found = [_get(part, name) for part in parts for name in ("finish_reason", "stop_reason")]
    found.append(_get(raw, "stopReason"))
    if _get(raw, "status") == "incomplete":  # of the Responses API
        found += ["incomplete", _get(_get(raw, "incomplete_details"), "reason")]
    if (response := _get(raw, "response")) is not None and response is not raw:  # an event of it
        found += _endings(response) if _get(response, "status") is not None else []
    found.append(_get(_get(raw, "delta"), "stop_reason"))  # of an event of Anthropic's
    found.append(_get(_get(raw, "prompt_feedback"), "block_reason"))  # of Gemini's
    return {_word(reason) for reason in found if reason is not None}


def _word(reason: Any) -> str:
    """A reason in small letters; some are members of an enum."""
    return str(getattr(reason, "name", reason)).rpartition(".")[2].lower()


def _refusals(raw: Any) -> bool:
    if not _REFUSED.isdisjoint(_endings(raw)):
        return True
    choices = _list(raw, "choices")
    messages = [_get(choice, name) for choice in choices for name in ("message", "delta")]
    parts = [part for item in _list(raw, "output") for part in _list(item, "content")]
    is_refused = any(_get(message, "refusal") for message in messages)
    return is_refused or any(_get(part, "type") == "refusal" for part in parts)
