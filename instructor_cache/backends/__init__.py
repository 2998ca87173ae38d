"""Where bytes are kept. Each backend imports its client only when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..protocols import AnyBackend
from .memory import MemoryCache

DEFAULT_URL = "disk://.instructor_cache"


def open_url(url: str) -> AnyBackend:
    """Give the backend that *url* names.

    ``memory://?maxsize=1000``, ``disk://relative/folder``, ``disk:///absolute/folder``,
    ``redis://host:6379/0``, ``rediss://...``, ``unix:///path/to/socket``. Options follow as in
    ``disk://cache?size_limit=1000000``. The same folder or server is opened once in a process.

    Raises ValueError for a scheme or an option that does not exist.
    """
    parts = urlsplit(url)
    if (opener := _OPENERS.get(parts.scheme)) is None:
        raise ValueError(
            f"found the cache URL {_without_password(url)!r}, whose scheme is "
            f"{parts.scheme!r}; known are: {', '.join(f'{name}://' for name in _OPENERS)}"
        )
    if opener is _memory:
        return opener(url, parts)
    place = (url, os.getcwd() if opener is _disk else "")
    if place not in _opened:
        _opened[place] = opener(url, parts)
    return _opened[place]


_opened: dict[tuple[str, str], AnyBackend] = {}


def _memory(url: str, parts: SplitResult) -> AnyBackend:
    return MemoryCache(**_options(parts, "maxsize", "max_bytes"))


def _disk(url: str, parts: SplitResult) -> AnyBackend:
    from .disk import DiskCache

    folder = unquote(parts.netloc + parts.path)
    if not folder:
        raise ValueError(f"found the cache URL {url!r} without a folder; write disk://folder")
    return DiskCache(folder, **_options(parts, "size_limit"))


def _redis(url: str, parts: SplitResult) -> AnyBackend:
    from .redis import RedisCache

    return RedisCache(url)


_OPENERS: dict[str, Callable[[str, SplitResult], AnyBackend]] = {
    "memory": _memory,
    "disk": _disk,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
}


def _options(parts: SplitResult, *known: str) -> dict[str, int]:
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in given.items():
        if name not in known or not value.isdecimal():
            raise ValueError(
                f"found the option {name}={value!r} in a {parts.scheme}:// URL; "
                f"it takes whole numbers for: {', '.join(known)}"
            )
    return {name: int(value) for name, value in given.items()}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
