"""Who has which slot of a cluster, and which of its nodes fail."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from ..._breaker import Breaker
from ..._discreet import told
from ...errors import NodeDown
from .._redis_url import Address

_PAUSE = 0.25  # seconds between two readings of the map
_BRIEFLY = 0.1  # of the timeout: what others get while one is silent


class Slots:
    """What all links know of a cluster.

    A node that fails has a breaker of its own, so that the keys of the others are served as ever.
    While one is silent, those that nobody has heard of since get a tenth of the timeout, so that
    who needs several of them, one after the other, doesn't wait for each.

    Attributes:
        masters: In no special order; none before the map was read.
    """

    def __init__(self, seeds: Sequence[Address], timeout: float) -> None:
        self._seeds, self._timeout = tuple(seeds), timeout
        self._owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self.masters: tuple[Address, ...] = ()
        self._nodes: tuple[Address, ...] = ()
        self._breakers: dict[Address, Breaker] = {}
        self._alive: set[Address] = set()
        self._heard: dict[Address, float] = {}  # when each answered last
        self._silence = -inf, -inf  # when the last one began and ended
        self._is_stale, self._tried_at = True, -inf

    # -- the map -----------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether the map should be read before it is used."""
        has_rested = monotonic() - self._tried_at >= _PAUSE
        return not self.masters or (self._is_stale and has_rested)

    def owner(self, slot: int) -> Address | None:
        return self._owners[slot]

    def move(self, slot: int, address: Address) -> None:
        """Take note that *slot* has moved; others may have as well."""
        self._owners[slot] = address
        self._is_stale = True
        if address not in self._nodes:
            self._nodes += (address,)

    def doubt(self) -> None:
        """Let the map be read again, soon."""
        self._is_stale = True

    def informants(self) -> list[Address]:
        """Give whom to ask for the map: seeds after what is known, and who fails last."""
        self._tried_at = monotonic()
        known = dict.fromkeys([*self._nodes, *self._seeds])
        return sorted(known, key=self.is_failing)

    def read(self, informant: Address, reply: list[Any]) -> bool:
        """Take the map as *informant* gives it; tell whether there is one."""
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        masters: dict[Address, None] = {}
        nodes: dict[Address, None] = {}
        for first, last, *group in reply:
            addresses = [_address(node, informant) for node in group]
            owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
            masters[addresses[0]] = None
            nodes.update(dict.fromkeys(addresses))
        if not masters:
            return False
        self._owners, self.masters, self._nodes = owners, tuple(masters), tuple(nodes)
        self._is_stale = False
        for gone in set(self._breakers).difference(nodes, self._seeds):
            self._breakers.pop(gone, None)
            self._alive.discard(gone)
            self._heard.pop(gone, None)
        return True

    def has(self, address: Address) -> bool:
        """Whether *address* is of this cluster, so far as is known."""
        return address in self._nodes or address in self._seeds

    # -- the nodes ---------------------------------------------------------------------------

    def is_failing(self, address: Address) -> bool:
        breaker = self._breakers.get(address)
        return breaker is not None and (breaker.is_open or breaker.failures > 0)

    def admit(self, address: Address) -> bool:
        """Tell whether a node fails and is to be tried again; NodeDown if it is not time to."""
        breaker = self._breakers.get(address)
        if breaker is None or not breaker.is_open:
            return False
        if not breaker.admits_probe(self._timeout):
            self._is_stale = True
            raise _down(address, breaker.reason)
        return True

    def fell_silent(self, seconds: float) -> None:
        """Take note that somebody has got no answer for *seconds*."""
        now = monotonic()
        self._silence = now - seconds, now

    def is_suspect(self, address: Address | None = None) -> bool:
        """Whether a node, or all that are not known to live, may be silent as one was just now."""
        began, ended = self._silence
        is_recent = monotonic() - ended < self._timeout
        return is_recent and self._heard.get(address or ("", 0), -inf) <= began

    def time_for(self, address: Address | None, left: float) -> float:
        """Give the seconds, of those that are *left*, that a node may take to answer."""
        most = _BRIEFLY * self._timeout if self.is_suspect(address) else left
        return max(0.0, min(left, most))

    def answered(self, address: Address) -> None:
        """Take note that a node answers."""
        self._alive.add(address)
        self._heard[address] = monotonic()
        if self.is_failing(address):
            self._breakers[address].succeed()

    def failure(
        self, address: Address, error: Exception, seconds: float, is_probe: bool = False
    ) -> Exception:
        """Take note that a node failed; give what to raise: NodeDown while others answer."""
        self._is_stale = True
        self._alive.discard(address)
        breaker = self._breakers.setdefault(address, Breaker(rests=True))
        if isinstance(error, redis.TimeoutError) and seconds >= _BRIEFLY / 2 * self._timeout:
            if not self.is_suspect(address):
                self.fell_silent(seconds)
            seconds = self._timeout  # however little of it there was
        if is_probe:
            breaker.fail_probe(error)
        else:
            breaker.fail(error, seconds, self._timeout)
        if not self._alive:
            return error
        down = _down(address, told(error))
        down.__cause__ = error
        return down


def slot_of(args: tuple[Any, ...]) -> int:
    """Give the slot of the one key of the command *args*."""
    key = args[3] if args[0] in ("EVAL", "EVALSHA") else args[1]
    return key_slot(key if isinstance(key, bytes) else key.encode())


def _address(node: Sequence[Any], informant: Address) -> Address:
    host = bytes(node[0] or b"").decode()
    return (informant[0] if host in ("", "?") else host), int(node[1])


def _down(address: Address, reason: str) -> NodeDown:
    return NodeDown(f"the node {address[0]}:{address[1]} of the Redis cluster fails: {reason}")
