"""Where the servers are that take writes, and how to connect to each of them to hear of changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

import redis

from ..._bridge import drive
from ._channel import PATIENCE, library_of
from ._links import Links

Make = Callable[[], Any]  # gives a connection of redis-py or valkey-py, not connected yet

# What a connection for any purpose needs of a ready client's settings.
_KEPT = {
    *("host", "port", "path", "db", "username", "password", "credential_provider"),
    *("client_name", "socket_keepalive", "socket_keepalive_options", "socket_type"),
}

_FROM_REPLICAS = "read_from_replicas", "load_balancing_strategy"  # settings of clusters


class Masters(NamedTuple):
    """How to find the servers that take writes.

    Attributes:
        find: Gives their names, each with what makes a connection; may block, and may raise.
        may_move: Whether it may give others later.
    """

    find: Callable[[], dict[str, Make]]
    may_move: bool = False


def masters_of_links(links: Links, *, may_move: bool) -> Masters:
    """Give the servers that *links*, those of threads, send what they write to."""

    def find() -> dict[str, Make]:
        found = drive(links.masters())
        return {str(each.address): _maker(*each.options(redis), each.timeout) for each in found}

    return Masters(find, may_move)


def masters_of_client(client: Any, timeout: float) -> Masters:
    """Give the server, or the servers, that a ready client writes to.

    Raises ValueError if it reads from replicas, which may be behind what is told, or if no
    connection can be made from its settings.
    """
    if any(getattr(client, name, None) for name in _FROM_REPLICAS):
        raise ValueError(_refused("reads from replicas, which lag behind"))
    if hasattr(client, "get_primaries"):
        return Masters(partial(_of_cluster, client, timeout), may_move=True)
    pool = client.connection_pool
    if hasattr(pool, "get_master_address"):
        if iscoroutinefunction(pool.get_master_address) or not pool.is_master:
            raise ValueError(_refused("is an async sentinel's, or reads from replicas"))
        return Masters(partial(_of_sentinel, pool, timeout), may_move=True)
    make = _maker(_sync_kind(pool.connection_class), pool.connection_kwargs, timeout)
    try:
        make()
    except TypeError as error:
        raise ValueError(_refused(f"has connections of its own kind ({error})")) from error
    return Masters(lambda: {"": make})


def _of_cluster(client: Any, timeout: float) -> dict[str, Make]:
    makes: dict[str, Make] = {}
    for node in client.get_primaries():
        if hasattr(node, "connection_kwargs"):  # an async cluster's
            kind, options = node.connection_class, node.connection_kwargs
        else:
            pool = client.get_redis_connection(node).connection_pool
            kind, options = pool.connection_class, pool.connection_kwargs
        options = {**options, "host": node.host, "port": node.port}
        makes[node.name] = _maker(_sync_kind(kind), options, timeout)
    return makes


def _of_sentinel(pool: Any, timeout: float) -> dict[str, Make]:
    host, port = pool.get_master_address()
    connections = import_module(f"{library_of(pool.connection_class)}.connection")
    is_tls = issubclass(pool.connection_class, connections.SSLConnection)
    kind = connections.SSLConnection if is_tls else connections.Connection
    options = {**pool.connection_kwargs, "host": host, "port": port}
    return {f"{host}:{port}": _maker(kind, options, timeout)}


def _maker(kind: Any, options: dict[str, Any], timeout: float) -> Make:
    library = library_of(kind)
    connections = import_module(f"{library}.connection")
    retry = import_module(f"{library}.retry").Retry(
        import_module(f"{library}.backoff").NoBackoff(), 0
    )
    kept = {k: v for k, v in options.items() if k in _KEPT or k.startswith("ssl_")}
    return partial(
        kind,
        **kept,
        protocol=3,
        parser_class=connections._RESP3Parser,  # hiredis gives pushes in ways of its own
        retry=retry,
        socket_timeout=PATIENCE,
        socket_connect_timeout=timeout,
    )


def _sync_kind(kind: Any) -> Any:
    """Give the sync twin of an async class of connections; any other as it is."""
    if ".asyncio" not in "".join(cls.__module__ for cls in kind.__mro__):
        return kind
    connections = import_module(f"{library_of(kind)}.connection")
    names = [cls.__name__ for cls in kind.__mro__ if ".asyncio" in cls.__module__]
    return next(getattr(connections, name) for name in names if hasattr(connections, name))


def _refused(why: str) -> str:
    return (
        f"found coherent=True with a ready Redis client that {why}; wanted one from whose settings "
        f"other connections can be made: give RedisCache a URL, or leave out coherent"
    )
