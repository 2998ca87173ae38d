"""What a cache asks of Redis, given a way to send one command."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import InvalidResponse

from ._window import BATCH, Window

START = {"": 0}  # the cursors of a scan that begins
_AT_ONCE = 0.001  # seconds to live for what may not be deleted
_MAX_TTL = 100 * 365 * 86_400  # seconds; what lives longer needs no expiry
_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if not ARGV[2] then redis.call('UNLINK', KEYS[1])
elseif ARGV[3] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""
_SWAP_NAME = hashlib.sha1(_SWAP.encode(), usedforsecurity=False).hexdigest()
_REFUSED = re.compile("(run the|unknown command) ['`]|can't run this command", re.IGNORECASE)
_REPLIES: dict[str, tuple[type, ...]] = {  # of the others: int
    "GET": (bytes, type(None)),
    "MGET": (list,),
    "SET": (bytes, type(None)),
    "SCAN": (list,),
    "CLUSTER": (list, bytes),
    "SENTINEL": (list, type(None)),
    "ROLE": (list,),
    "ASKING": (bytes,),
}


def checked(args: tuple[Any, ...], reply: Any) -> Any:
    """Give *reply*, if it may be one to the command *args*; else raise InvalidResponse.

    On a connection that is out of step each reply belongs to the command before. That shows as
    soon as two commands differ in kind, and the connection is given up.
    """
    kinds = _REPLIES.get(args[0], (int,))
    if type(reply) not in kinds or not _CHECKS.get(args[0], _any)(args, reply):
        raise InvalidResponse(f"Protocol Error: found a {type(reply).__name__} after {args[0]}")
    return reply


def _any(*_: object) -> bool:
    return True


def _is_done(_: tuple[Any, ...], reply: Any) -> bool:
    return reply in (b"OK", None)


def _is_one_each(args: tuple[Any, ...], reply: list[Any]) -> bool:
    return len(reply) == len(args) - 1 and _VALUES.issuperset(map(type, reply))


_VALUES = {bytes, type(None)}
_CHECKS = {"SET": _is_done, "MGET": _is_one_each}


class Commands:
    """The commands of a cache over `command`, as coroutines that suspend only where it does."""

    has_mget = has_scripts = True  # until the server says otherwise

    def command(self, *args: Any, again: bool = True, node: str = "") -> Coroutine[Any, Any, Any]:
        """Send a command; give the reply, a value of it undecoded.

        *again*: doing it twice does no harm, so it may be sent anew if its connection had broken.
        *node*: whom to ask, in a cluster.
        """
        raise NotImplementedError

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        """Give the value of each key, or the error in its place, all asked for at once."""
        raise NotImplementedError

    def get(self, key: str) -> Awaitable[bytes | None]:
        return self.command("GET", key)

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Give the values of one key or more in their order, in one round trip.

        Not every user of a server may send an MGET, nor does every server know it.
        """
        if self.has_mget:
            try:
                return await self.command("MGET", *keys)  # type: ignore[no-any-return]
            except Exception as error:
                if not _is_refused(error):
                    raise
                self.has_mget = False
        return without_errors(as_of_mget(await self.get_each(keys)))

    async def outcomes(self, keys: Sequence[str]) -> list[bytes | Exception | None]:
        """Do what `mget` does; an error is in the place of what only failed for one key."""
        try:
            return [*await self.mget(keys)]
        except Exception as error:
            if type(error).__name__ != "NoPermissionError":  # of redis-py or of valkey-py
                raise
        return as_of_mget(await self.get_each(keys))  # some of them may be read

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Give the values of any number of keys, in their order; up to 500 in one round trip."""
        found, window = list[bytes | None](), Window(BATCH)
        while len(found) < len(keys):
            some = await self.mget(keys[len(found) : len(found) + window.room()])
            window.learn(some)
            found += some
        return found

    async def set(self, key: str, value: bytes, ttl: float | None) -> None:
        await self.command("SET", key, value, *_expiry(ttl))

    async def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None) -> bool:
        if old is None and new is None:
            return not await self.command("EXISTS", key)
        if new is not None and old is None:
            return await self._add(key, new, ttl)
        if self.has_scripts:
            try:
                return await self._swap_at_once(key, old, new, ttl)
            except Exception as error:
                if not _is_refused(error):
                    raise
                self.has_scripts = False
        return await self._swap_in_steps(key, old, new, ttl)

    async def _add(self, key: str, new: bytes, ttl: float | None) -> bool:
        """Store *new* if there is no value, be it that there is a list or the like."""
        if await self.command("SET", key, new, "NX", *_expiry(ttl), again=False):
            return True
        try:
            await self.command("GET", key)
        except Exception as error:
            if not is_of_other_type(error):
                raise
            await self.set(key, new, ttl)
            return True
        return False

    async def _swap_at_once(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None
    ) -> bool:
        how = (1, key, old) if new is None else (1, key, old, new, *_expiry(ttl)[1:])
        try:
            return bool(await self.command("EVALSHA", _SWAP_NAME, *how, again=False))
        except Exception as error:
            if type(error).__name__ != "NoScriptError":  # of redis-py or of valkey-py
                raise
        return bool(await self.command("EVAL", _SWAP, *how, again=False))

    async def _swap_in_steps(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None
    ) -> bool:
        """Do the same where scripts are refused; what others do between the steps is lost."""
        if await self.mget([key]) != [old]:
            return False
        if new is not None:
            await self.set(key, new, ttl)
            return True
        try:
            await self.command("UNLINK", key)
        except Exception as error:
            if not _is_refused(error):
                raise
            await self.set(key, b"", _AT_ONCE)
        return True

    async def scan(self, prefix: str, cursors: dict[str, int]) -> list[bytes]:
        """Give some keys below *prefix*; go on while there are *cursors*, which begin as START.

        There is one cursor for each node of a cluster that is not done.
        """
        node, cursor = cursors.popitem()
        how = "MATCH", glob(prefix), "COUNT", BATCH
        reply = await self.command("SCAN", cursor, *how, node=node)
        found = reply[0] if isinstance(reply[0], dict) else {node: reply[0]}
        cursors.update({name: int(found[name]) for name in found if int(found[name])})
        return reply[1]  # type: ignore[no-any-return]

    async def count(self) -> int:
        """Give the number of all keys."""
        return await self.command("DBSIZE")  # type: ignore[no-any-return]

    async def clear(self, prefix: str) -> None:
        cursors = START.copy()
        while cursors:
            if keys := await self.scan(prefix, cursors):
                await self.command("UNLINK", *keys)


def is_of_other_type(error: object) -> bool:
    """Whether *error* says that what is there is no value but a list or the like."""
    return isinstance(error, Exception) and str(error).startswith("WRONGTYPE")


def _is_refused(error: Exception) -> bool:
    """Whether *error* says that the server does not know a command, or not let us use it at all."""
    return bool(_REFUSED.search(str(error)))


def as_of_mget(outcomes: Iterable[Any]) -> list[bytes | Exception | None]:
    """Give what single GETs gave, or failed with; None where MGET would, for what is no value."""
    return [None if is_of_other_type(outcome) else outcome for outcome in outcomes]


def without_errors(outcomes: Iterable[bytes | Exception | None]) -> list[bytes | None]:
    """Give *outcomes*; raise the first error among them."""
    values = list[bytes | None]()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        values.append(outcome)
    return values


def texts(keys: Iterable[bytes]) -> Iterator[str]:
    """Give those of *keys* that are text, as all of ours are; others may keep any bytes."""
    for key in keys:
        with suppress(UnicodeDecodeError):
            yield key.decode()


def glob(prefix: str) -> str:
    """Give a glob that matches what begins with *prefix*, whatever characters are in it."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in prefix) + "*"


def _expiry(ttl: float | None) -> tuple[str, int] | tuple[()]:
    if ttl is None or ttl > _MAX_TTL:
        return ()
    return "PX", max(1, round(ttl * 1000))
