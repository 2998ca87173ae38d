"""The provider's own answers in a result, wherever they lie in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._parts import class_of, own, things_in

# What a result of theirs is, is the provider's answer; a user's own model may have a `status` too.
_SDKS = {
    *("openai", "anthropic", "google", "vertexai", "groq", "cerebras", "mistralai", "cohere"),
    *("litellm", "together", "writerai", "fireworks", "xai_sdk", "langchain_core", "pydantic_ai"),
}

_DICT: Any = dict  # whose methods are not those of a user's own kind of dict


def raws_of(result: Any) -> Iterator[Any]:
    """The provider's answers: the result itself, what is attached to it, those of its parts."""
    is_raw = _Raws()
    for thing in things_in(result, is_raw.__getitem__):
        if (attached := _attached(thing)) is not None:
            yield attached
        if is_raw[class_of(thing)]:
            yield thing


def is_stream(raw: Any) -> bool:
    """Tell whether it is the provider's stream itself, which is used up, not what came of it."""
    return any(hasattr(class_of(raw), name) for name in ("__next__", "__anext__", "__aiter__"))


def without_stream(answer: Any) -> Any:
    """Give a list that instructor gathered without the stream it was gathered from."""
    held = own(answer)
    if issubclass(class_of(answer), list) and is_stream(held.get("_raw_response")):
        held["_raw_response"] = None
    return answer


class _Raws(dict[type, bool]):
    """Tells of a class whether it is a provider's; a stream has one class for all its items."""

    def __missing__(self, kind: type) -> bool:
        roots = {cls.__module__.partition(".")[0] for cls in kind.__mro__}
        self[kind] = not roots.isdisjoint(_SDKS) or kind.__name__ == "RawCompletion"
        return self[kind]


def _attached(thing: Any) -> Any:
    """What instructor attached; what a model declares as private lies in a dict of Pydantic's."""
    is_dict = issubclass(class_of(thing), dict)
    return _DICT.get(thing if is_dict else own(thing), "_raw_response")
