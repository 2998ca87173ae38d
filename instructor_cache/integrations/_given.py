"""What `cache_client` can be given: which clients, and which options."""

from __future__ import annotations

import sys
from inspect import signature
from typing import Any

from ..decorator import instructor_cache
from ._client import ClientCache
from ._sdk import home_of

__all__ = ["check"]

_KEY = "the call, its endpoint and its account are the key; leave some out with ignore="
# Options of the decorator that are the client's own affair here, and why.
_TAKEN = {
    "key": _KEY,
    "cache_key_fn": _KEY,
    "returns": "each call's response_model says it",
    "raw_response": "create_with_completion needs it",
}
_OPTIONS = frozenset(signature(instructor_cache).parameters) - {"backend", "ttl"}


def check(client: Any, namespace: Any, options: dict[str, Any]) -> None:
    """Raise TypeError or ValueError for what makes no sense."""
    _check_client(client)
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise TypeError(f"namespace is {namespace!r}; it must be text, or None for the account")
    _check_options(options)


def _check_client(client: Any) -> None:
    kind = getattr(sys.modules.get("instructor"), "Instructor", ())
    if not isinstance(client, kind) and _is_patched(client):
        raise TypeError(
            f"found a {type(client).__name__} that instructor.patch has changed in place; wanted a "
            f"client of instructor's, which has methods to cache: give one that was not patched to "
            f"instructor.from_openai, and what that gives to cache_client"
        )
    if not isinstance(client, kind):
        raise TypeError(
            f"found a {type(client).__name__}; wanted a client of instructor's, such as "
            f"instructor.from_openai(client) gives: wrap it so, then cache that"
        )
    if isinstance(client.__dict__.get("cache"), ClientCache):
        raise ValueError("found a client that is cached already; give cache_client the plain one")


def _check_options(options: dict[str, Any]) -> None:
    if callable(options.get("version")):
        raise TypeError(
            "found a version that follows a function's code; wanted text, for a client has no "
            'function of yours to follow: change it by hand, as in version="prompt-3"'
        )
    for name in _TAKEN.keys() & options.keys():
        raise TypeError(f"found {name}=, which cache_client does not take: {_TAKEN[name]}")
    for name in options.keys() - _OPTIONS:
        raise TypeError(
            f"found {name}=, which cache_client does not take; it takes ttl=, namespace=, and "
            f"of instructor_cache {', '.join(sorted(_OPTIONS - _TAKEN.keys()))}"
        )
    if "_client" in options.get("ignore", ()):
        raise ValueError("ignore names '_client'; say whose answers may be shared by namespace=")


def _is_patched(client: Any) -> bool:
    chat = getattr(client, "chat", None)
    create = getattr(getattr(chat, "completions", None), "create", None)
    return hasattr(create, "__globals__") and home_of(create) == "instructor"
