"""What connections of both colours have in common: how to reach a server, how long to try."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from math import inf, nan
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff

from ...lifetimes import patience
from .._redis_url import UNREAD, Address, named_alike

_DAY = 86_400.0  # seconds
QUEUE = 10  # timeouts to wait for a free connection: those who have one are soon done
# A firewall that forgets an idle connection tells nobody; without these the next command would
# only find out by waiting.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a server, and for how long to try."""

    url: str = field(repr=False)  # it may hold a password
    timeout: float
    patience: float  # seconds to wait for a free connection
    size: int  # connections in each colour and event loop
    retries: int
    address: Address | None = None  # in place of the URL's

    def at(self, address: Address) -> Settings:
        """Give the settings for another server, which is reached alike."""
        return replace(self, address=address)

    @classmethod
    def read(cls, url: str, timeout: float, size: int, retries: int) -> Settings:
        """Read *url*, whose options are above the other arguments.

        Raises ValueError for a URL or an option that Redis clients don't know.
        """
        options = _parse(redis, url)
        if "path" not in options and url.startswith("unix:"):
            raise ValueError("found no path in a unix:// URL; wanted unix:///path/to/socket")
        if int(options.get("db", 0)) < 0 or urlsplit(url).port == 0:
            raise ValueError(
                "found a database below 0, or port 0, in a Redis URL; wanted those of a server: "
                "leave them out for database 0 and port 6379"
            )
        if "credential_provider" in options:
            raise ValueError(
                "found credential_provider in a Redis URL, where it can only be text; wanted an "
                "object: give RedisCache a ready client that has it"
            )
        timeout = seconds("socket_timeout", options.get("socket_timeout", timeout))
        waiting = seconds("timeout", _number(options.get("timeout", QUEUE * timeout)))
        size = _whole("max_connections", options.get("max_connections", size), 1)
        settings = cls(url, timeout, waiting, size, _whole("retries", retries, 0))
        try:
            kind, options = settings.options(redis)
            kind(**options)
        except TypeError as error:
            raise ValueError(f"found an unknown option in a Redis URL: {error}") from None
        except redis.RedisError:
            raise ValueError(
                "found an option in a Redis URL that can't be read; "
                "wanted a value that redis-py takes, as in ssl_cert_reqs=required"
            ) from None
        _check_files(options)
        return settings

    @property
    def place(self) -> tuple[Any, ...]:
        """What is kept where, without a password."""
        return place_of(_parse(redis, self.url))

    def options(self, colour: Any) -> tuple[Any, dict[str, Any]]:
        """Give a connection class and its arguments; *colour* is redis or redis.asyncio."""
        options = _parse(colour, self.url)
        for name in ("max_connections", "timeout"):
            options.pop(name, None)
        kind = options.pop("connection_class", colour.connection.Connection)
        if not isinstance(kind, type):
            raise TypeError("connection_class can't be given in a URL")
        if "path" not in options:
            options = {"socket_keepalive": True, "socket_keepalive_options": _keepalive()} | options
        if issubclass(kind, colour.connection.SSLConnection):
            is_verified = str(options.get("ssl_cert_reqs", "required")) != "none"
            options.setdefault("ssl_check_hostname", is_verified)  # redis-py 5 leaves it out
        if self.address is not None:
            options["host"], options["port"] = self.address
        options["retry"] = colour.retry.Retry(NoBackoff(), 0)
        options.setdefault("protocol", 2)  # saves a round trip, and old servers and proxies know it
        return kind, options


def place_of(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Give what is kept where, for the arguments of a connection."""
    db = int(options.get("db") or 0)
    if path := options.get("path"):
        return "redis", path, db
    host = named_alike(options.get("host") or "localhost")
    return "redis", host, int(options.get("port") or 6379), db


def seconds(name: str, given: Any) -> float:
    """Give *given* if it is seconds to wait, though a day at most; else raise ValueError."""
    if given == inf:
        raise ValueError(f"{name} is infinite; it must be seconds, more than 0")
    return min(patience(name, given), _DAY)


def _number(given: Any) -> float:
    try:
        return float(given)  # a str in redis-py 5.0
    except ValueError:
        return nan


def _whole(name: str, given: Any, least: int) -> int:
    if type(given) is not int or given < least:
        raise ValueError(f"{name} is {given!r}; it must be a whole number, {least} or more")
    return given


def _parse(colour: Any, url: str) -> dict[str, Any]:
    try:
        return dict(colour.connection.parse_url(url))
    except ValueError:  # its text may hold a part of the password
        raise ValueError(UNREAD) from None


def _check_files(options: Mapping[str, Any]) -> None:
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if (path := options.get(name)) and not Path(path).exists():
            raise ValueError(
                f"found nothing where {name} in a Redis URL says; "
                f"wanted certificates or a key there: check the path"
            )


def close_late(connecting: Future[Any]) -> None:
    """Close the socket that came when nobody waited for it any more, if it did."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


def _keepalive() -> dict[int, int]:
    return {getattr(socket, k): v for k, v in _KEEPALIVE.items() if hasattr(socket, k)}
