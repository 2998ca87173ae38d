"""How a provider's answer ended: what its objects and the events of its streams say of that."""

from __future__ import annotations

from typing import Any

# The words of providers, in small letters.
_TRUNCATED = {
    *("length", "max_tokens", "model_length", "max_output_tokens", "incomplete", "error_limit"),
    "model_context_window_exceeded",
}
_REFUSED = {
    *("content_filter", "content_filtered", "refusal", "guardrail_intervened"),
    *("safety", "image_safety", "prohibited_content", "blocklist", "recitation", "spii"),
}
# Of a part of an answer, and of events that tell of one piece by piece.
_REFUSALS = {
    *("refusal", "refusal.delta", "refusal.done"),
    *("response.refusal.delta", "response.refusal.done"),
}


def is_truncated(raw: Any) -> bool:
    """Tell whether an answer, or what a stream says of one, was cut off."""
    return not _TRUNCATED.isdisjoint(_endings(raw))


def is_refused(raw: Any) -> bool:
    """Tell whether an answer, or what a stream says of one, is a refusal or was filtered."""
    if not _REFUSED.isdisjoint(_endings(raw)):
        return True
    return any(_get(part, "refusal") or _get(part, "type") in _REFUSALS for part in _parts(raw))


def _endings(raw: Any) -> set[str]:
    """The words in which providers say why an answer ended."""
    parts = [raw, *_list(raw, "choices"), *_list(raw, "candidates")]
    found = [_get(part, name) for part in parts for name in ("finish_reason", "stop_reason")]
    found.append(_get(raw, "stopReason"))
    if _get(raw, "status") == "incomplete":  # of the Responses API
        found += ["incomplete", _get(_get(raw, "incomplete_details"), "reason")]
    if (response := _get(raw, "response")) is not None and response is not raw:  # an event of it
        found += _endings(response) if _get(response, "status") is not None else []
    if (told := _get(raw, "response_metadata")) is not None:  # of LangChain's messages
        found += [_get(told, "done_reason"), *_endings(told)]
    found.append(_get(_get(raw, "delta"), "stop_reason"))  # of an event of Anthropic's
    found.append(_get(_get(raw, "prompt_feedback"), "block_reason"))  # of Gemini's
    return {_word(reason) for reason in found if reason is not None}


def _word(reason: Any) -> str:
    """A reason in small letters; some are members of an enum."""
    return str(getattr(reason, "name", reason)).rpartition(".")[2].lower()


def _parts(raw: Any) -> list[Any]:
    """What may hold a refusal: messages of chat completions, contents of responses, events."""
    wholes = [raw, *(_get(raw, name) for name in ("response", "item", "part", "chunk"))]
    choices = [raw, *(choice for whole in wholes for choice in _list(whole, "choices"))]
    names = ("message", "delta", "additional_kwargs")  # the last one of LangChain's messages
    messages = [_get(choice, name) for choice in choices for name in names]
    items = [*wholes, *(item for whole in wholes for item in _list(whole, "output"))]
    contents = [content for item in items for content in _list(item, "content")]
    return [*wholes, *messages, *contents]


def _get(thing: Any, name: str) -> Any:
    """What an object or a mapping has under a name; None for nothing."""
    kind: Any = type(thing)  # pyright: ignore[reportUnknownVariableType]
    try:
        if hasattr(kind, "keys"):
            return thing.get(name)
        if hasattr(kind, "__pydantic_fields__"):  # its getattr is slow for a miss
            own: dict[str, Any] = thing.__dict__
            more: dict[str, Any] = thing.__pydantic_extra__ or {}
            return own.get(name, more.get(name))
        return getattr(thing, name, None)
    except Exception:  # of its own code
        return None


def _list(thing: Any, name: str) -> list[Any]:
    found = _get(thing, name)
    return list(found) if isinstance(found, (list, tuple)) else []  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
