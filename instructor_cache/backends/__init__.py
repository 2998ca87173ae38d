"""Where bytes are kept. Each backend imports its client only when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..protocols import AnyBackend
from ._redis_url import SCHEMES
from .memory import MemoryCache

DEFAULT_URL = "disk://.instructor_cache"


def open_url(url: str) -> AnyBackend:
    """Give the backend that *url* names.

    ``memory://?maxsize=1000``, ``disk://relative/folder``, ``disk:///absolute/folder``,
    ``redis://host:6379/0``, ``rediss://...``, ``unix:///path/to/socket``, and all others that
    `RedisCache` takes. Options follow as in
    ``disk://cache?size_limit=1000000``. The same folder or server is opened once in a process,
    and anew after it was closed.

    Raises ValueError for a scheme or an option that does not exist.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if (opener := _OPENERS.get(scheme.lower())) is None:  # the rest of it may hold a password
        raise ValueError(
            f"found a cache URL that begins with {scheme!r}; "
            f"wanted one of: {', '.join(f'{name}://' for name in _OPENERS)}; "
            f"for a folder write disk://folder or disk:///absolute/folder"
        )
    if opener is _memory:
        return opener(url)
    place = (url, _folder(url) if opener is _disk else "")
    if place not in _opened or getattr(_opened[place], "closed", False):
        _opened[place] = opener(url)
    return _opened[place]


_opened: dict[tuple[str, str], AnyBackend] = {}


def _memory(url: str) -> AnyBackend:
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/") or parts.fragment:
        raise ValueError(
            f"found {url!r}; wanted memory://, which has no name or number: "
            f"limits are options, as in memory://?maxsize=1000"
        )
    options: dict[str, Any] = _options(parts, "maxsize", "max_bytes", "max_entry_bytes")
    return MemoryCache(**options)


def _disk(url: str) -> AnyBackend:
    from .disk import DiskCache

    options: dict[str, Any] = _options(urlsplit(url), "size_limit")
    return DiskCache(_folder(url), **options)


def _folder(url: str) -> str:
    """The folder that *url* names, from the root; a relative one is meant from where we are."""
    parts = urlsplit(url)
    folder = unquote(parts.netloc + parts.path)
    if not folder:
        raise ValueError(f"found the cache URL {url!r} without a folder; write disk://folder")
    if parts.fragment:
        raise ValueError(
            f"found a # in the cache URL {url!r}; wanted a folder and options: write # as %23"
        )
    try:
        return os.path.abspath(Path(folder).expanduser())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"found that the working directory was deleted, wanted the folder {folder!r} in it; "
            f"name a folder from the root, as in disk:///absolute/folder, or INSTRUCTOR_CACHE_URL"
        ) from error


def _redis(url: str) -> AnyBackend:
    from .redis import RedisCache

    return RedisCache(url)


_OPENERS: dict[str, Callable[[str], AnyBackend]] = {
    "memory": _memory,
    "disk": _disk,
    **dict.fromkeys(SCHEMES, _redis),
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
