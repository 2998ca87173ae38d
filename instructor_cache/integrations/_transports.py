"""What carries an HTTP client's requests: where to, and whether it may change them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary

from ._sdk import kind_of

__all__ = ["servers", "unknown_transport"]

_HTTPX = frozenset({"httpx", "httpx2"})
_SENDERS = frozenset({"HTTPTransport", "AsyncHTTPTransport"})
_BASES = frozenset({"BaseTransport", "AsyncBaseTransport"})
_APPS: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # names of those that answer themselves
_OVER_AIOHTTP = ("httpx_aiohttp.", "openai._vendor.httpx_aiohttp.")
# What a session of aiohttp may hold that changes requests, or where they go.
_HELD = (
    *("_default_headers", "_default_auth", "_default_proxy", "_default_proxy_auth", "_base_url"),
    *("_trust_env", "_trace_configs", "_middlewares"),
)


def servers(http: Any) -> list[tuple[str, str]]:
    """Give what answers in place of the host in a URL, and which URLs: Unix sockets, functions and
    apps of this process, which nobody else knows."""
    found = ((urls, _socket(each) or _app(each)) for urls, each in _transports(http))
    return [(urls, server) for urls, server in found if server]


def unknown_transport(http: Any) -> str:
    """Name a transport that may change requests; empty where all send them as they are."""
    return next((type(t).__name__ for _, t in _transports(http) if not _is_known(t)), "")


def _transports(http: Any) -> Iterator[tuple[str, Any]]:
    mounts: dict[Any, Any] = getattr(http, "_mounts", None) or {}
    mounted = ((str(urls.pattern), transport) for urls, transport in mounts.items())
    found = (("", getattr(http, "_transport", None)), *mounted)
    return (each for each in found if each[1] is not None)


@lru_cache(maxsize=256)
def _answers(cls: Any) -> bool:
    kinds = (each for each in cls.__mro__ if _root(each) in _HTTPX)
    return any(each.__name__ not in _SENDERS | _BASES for each in kinds)


def _is_known(transport: Any) -> bool:
    cls = kind_of(transport)
    if cls.__module__.startswith(_OVER_AIOHTTP):
        return transport.client is None or _is_plain(transport.client)
    return _root(cls) in _HTTPX


def _is_plain(session: Any) -> bool:
    """Whether a session of aiohttp is like those that a transport makes for itself."""
    parts = (session, getattr(session, "connector", None), getattr(session, "cookie_jar", None))
    if any(_root(kind_of(part)) != "aiohttp" for part in parts if part is not None):
        return False
    are_given = any(not cookie["domain"] for cookie in session.cookie_jar)  # by hand
    return not (are_given or any(getattr(session, name, None) for name in _HELD))


def _socket(transport: Any) -> str:
    pool, session = getattr(transport, "_pool", None), getattr(transport, "client", None)
    of_session = getattr(getattr(session, "connector", None), "path", None)
    found = (getattr(pool, "_uds", None), getattr(transport, "uds", None), of_session)
    return next((path for path in found if isinstance(path, str)), "")


def _app(transport: Any) -> str:
    return _APPS.setdefault(transport, token_hex(8)) if _answers(kind_of(transport)) else ""


def _root(cls: type) -> str:
    return cls.__module__.partition(".")[0]
