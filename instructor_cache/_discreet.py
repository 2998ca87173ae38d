"""Errors without what is stored: some quote the very bytes that they could not read."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import BackendError

_HARMLESS = "Protocol Error: found "  # how our own begin, which quote nothing


def discreet(error: BaseException) -> BaseException:
    """Give *error*, or one that says only what it was, if it may quote stored bytes."""
    if (telltale := next(filter(_may_quote, _chain(error)), None)) is None:
        return error
    if telltale is error and not isinstance(error, UnicodeError):
        return type(error)(_HARMLESS + "what is no reply")
    return BackendError(
        f"found a {type(telltale).__name__}, whose text may hold a part of an answer: not shown"
    )


def told(error: BaseException) -> str:
    """Give the kind and the text of *error*, without what is stored."""
    shown = discreet(error)
    return f"{type(shown).__name__}: {words(shown)}"


def words(error: BaseException) -> str:
    """Give the text of *error*; the user's own exceptions may have none to give."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} without a text>"


def _may_quote(error: BaseException) -> bool:
    if type(error).__name__ == "InvalidResponse":  # of redis-py or of valkey-py
        return not words(error).startswith(_HARMLESS)
    return isinstance(error, UnicodeError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
