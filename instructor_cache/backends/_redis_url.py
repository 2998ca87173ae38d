"""What a Redis URL names: one server, the master that sentinels know of, or a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

Address = tuple[str, int]  # a host and a port

SCHEMES = (
    *("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster"),
    *("rediss+cluster", "valkey", "valkeys", "valkey+sentinel", "valkeys+sentinel"),
    *("valkey+cluster", "valkeys+cluster"),
)
_FORMS = {
    "sentinel": "://host:port[,host:port...]/service_name[/db]?option=value",
    "cluster": "://host:port[,host:port...]?option=value",
}
_PORTS = {"sentinel": 26379, "cluster": 6379}
# A password with an unescaped @, /, ? or # fits none of these, so that no part of it is taken for
# a host, a database or an option.
_REST = re.compile(r"(?:([^/?#@]*)@)?([^/?#@]*)(/[^?#@]*)?(?:\?([^#@]*))?")
_SERVER = re.compile(r"(?:[^/?#@]*@)?(?P<host>[^/?#@]*)(/[0-9]*)?/?(?:\?[^#@]*)?")
_SOCKET = re.compile(r"(?:[^/?#@]*@)?(/[^?#@]*)?(?:\?[^#@]*)?")
UNREAD = (
    "found a Redis URL that can't be read; wanted "
    "redis://user:password@host:6379/0?option=value, special characters as %XX"
)
_SEVERAL = (
    "found several hosts in a Redis URL for one server; wanted redis+cluster://host,host or "
    "redis+sentinel://host,host/service_name: write what they are"
)

Kind = Literal["server", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL names.

    Attributes:
        url: For redis-py: the server's own, or what to reach each server of several with.
        seeds: The sentinels, or some nodes of a cluster; the first that answers is asked.
        service: What the sentinels call the master.
        sentinel_url: What to reach each sentinel with.
    """

    kind: Kind
    url: str = field(repr=False)  # it may hold a password
    seeds: tuple[Address, ...] = ()
    service: str = ""
    sentinel_url: str = field(default="", repr=False)

    @classmethod
    def read(cls, url: str) -> Place:
        """Read *url*; ValueError, which repeats nothing of it, if it can't be read."""
        scheme, colons, rest = url.partition("://")
        scheme = scheme.lower()
        base, _, kind = scheme.replace("valkey", "redis").partition("+")
        if scheme not in SCHEMES or not kind:
            form = _SOCKET if scheme == "unix" else _SERVER
            parts = form.fullmatch(rest)
            if scheme not in SCHEMES or not colons or parts is None:
                raise ValueError(UNREAD)
            if "," in parts.groupdict().get("host", ""):
                raise ValueError(_SEVERAL)
            return cls("server", f"{base}://{rest}")
        if (parts := _REST.fullmatch(rest)) is None:
            raise _unread(scheme, "what can't be read", "write special characters as %XX")
        user, hosts, path, query = (part or "" for part in parts.groups())
        seeds, path = _addresses(scheme, kind, hosts), path.strip("/")
        user += "@" if user else ""
        if kind == "cluster":
            _refuse_database(scheme, path, query)
            return cls("cluster", f"{base}://{user}localhost?{query}", seeds)
        service, _, db = path.partition("/")
        if not service:
            raise _unread(scheme, "no service name", "give the name that the sentinels monitor")
        if db and not db.isdecimal():
            raise _unread(scheme, "no number after the service", "give the database's number")
        options = dict(parse_qsl(query, keep_blank_values=True))
        known = _taken(options, "sentinel_username", "sentinel_password")
        server = f"{base}://{user}localhost/{db}?{urlencode(options)}"
        _taken(options, "username", "password")  # the master's, which no sentinel may see
        sentinels = f"{base}://{known}localhost?db=0&{urlencode(options)}"
        return cls("sentinel", server, seeds, unquote(service), sentinels)


class Seeds(frozenset[Address]):
    """Some servers of several; equal to others if any of them is the same one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seeds) and not self.isdisjoint(other)

    def __hash__(self) -> int:
        return 0  # as those that are equal may have hardly anything in common

    @classmethod
    def of(cls, addresses: Iterable[Address]) -> Seeds:
        return cls((named_alike(host), port) for host, port in addresses)


def named_alike(host: str) -> str:
    """Give one name for *host*, whichever of those that everybody knows was given."""
    host = host.lower()
    return "localhost" if host in ("127.0.0.1", "::1") else host


def _addresses(scheme: str, kind: str, hosts: str) -> tuple[Address, ...]:
    if not hosts:
        raise _unread(scheme, "no host", "name at least one, and better several")
    return tuple(_address(scheme, kind, part) for part in hosts.split(","))


def _address(scheme: str, kind: str, text: str) -> Address:
    found = re.fullmatch(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>.*))?", text)
    if found is None:
        raise _unread(scheme, "a host that can't be read", "an IPv6 address goes into []")
    port = found["port"] or str(_PORTS[kind])
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise _unread(scheme, "an unreadable port", "a port is a number from 1 to 65535")
    return unquote(found["six"] or found["name"]), int(port)


def _refuse_database(scheme: str, path: str, query: str) -> None:
    numbers = [path, *(value for name, value in parse_qsl(query) if name == "db")]
    if any(number not in ("", "0") for number in numbers):
        raise _unread(scheme, "a database number", "a cluster has database 0 only: leave it out")


def _taken(options: dict[str, str], *names: str) -> str:
    """Take a user and a password, by their *names*, out of *options*; give them as in a URL."""
    user, password = (quote(options.pop(name, ""), safe="") for name in names)
    return f"{user}:{password}@" if user or password else ""


def _unread(scheme: str, found: str, hint: str) -> ValueError:
    form = scheme + _FORMS[scheme.partition("+")[2]]
    return ValueError(f"found {found} in a {scheme}:// URL; wanted {form}: {hint}")
