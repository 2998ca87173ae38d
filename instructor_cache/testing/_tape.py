"""The backend behind a cassette: plays what was recorded, takes what is new."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from warnings import warn

from ..entry import Entry
from ..errors import InstructorCacheWarning
from ._leaks import without
from ._page import Block, function_of


class CassetteWarning(InstructorCacheWarning):
    """An answer was given but not recorded."""


class Tape:
    """Keeps entries as blocks, and no times: what is recorded doesn't expire.

    Deletions are not: what was played once is played again, though the code that is tested
    invalidates it in between. While recording they have the function called again.

    Args:
        blocks: What was recorded before.
        is_final: Play only, and keep nothing.
        refuse: Tells why a block must not be kept; empty if it may.
    """

    bounded = is_local = is_near = True
    timeout = 0.0

    def __init__(
        self, blocks: dict[str, Block], *, is_final: bool, refuse: Callable[[Block], str]
    ) -> None:
        self.blocks, self.recorded = dict(blocks), dict[str, Block]()
        self.refused: dict[str, str] = {}
        self.replaced: list[Block] = []
        self.played, self.used = 0, set[str]()
        self._lock, self._pid = Lock(), os.getpid()
        self._is_final, self._refuse = is_final, refuse
        self._answers = {key: _packed(block) for key, block in blocks.items()}

    def get(self, key: str, /) -> bytes | None:
        found = self._answers.get(key)
        if found is not None:
            with self._lock:
                self.played += 1
                self.used.add(key)
        return found

    def set(self, key: str, value: bytes, _ttl: float | None, /) -> None:
        entry = Entry.unpack(key, value)
        block = Block(key, without(entry.call), entry.payload)
        self._answers[key] = _packed(block)
        if self._is_final:
            return
        if os.getpid() != self._pid:
            self._warn_of_fork(block)
        reason = self._refuse(block)
        with self._lock:
            if reason:
                self.refused[key] = reason
            else:
                self.refused.pop(key, None)
                self._record(block)

    def _record(self, block: Block) -> None:
        played = self.blocks if block.key in self.used else {}
        if before := self.recorded.get(block.key) or played.get(block.key):
            self.replaced.append(before)
        self.recorded[block.key] = block

    def moved(self, key: str) -> str:
        """Give the function of that name in another module that has the call; else nothing.

        Nothing either where that of this module has calls: the other is another function.
        """
        function, call = function_of(key), key[key.rindex(":") :]
        if any(block.function == function for block in self.blocks.values()):
            return ""
        found = {block.function for block in self.blocks.values() if block.key.endswith(call)}
        name = f".{function.rpartition('.')[2]}"
        return next((each for each in found if each.endswith(name)), "")

    def taken(self) -> tuple[dict[str, Block], dict[str, str], list[Block]]:
        """Give what is recorded by now, refused, and replaced: calls may go on meanwhile."""
        with self._lock:
            return dict(self.recorded), dict(self.refused), list(self.replaced)

    def _warn_of_fork(self, block: Block) -> None:
        warn(
            f"found a call of {block.function} in a process that was forked in the test: its "
            f"answer is not recorded, for the first process writes the cassette; call it there",
            CassetteWarning,
            stacklevel=2,
        )

    def delete(self, key: str, /) -> None:
        if not self._is_final:
            self._answers.pop(key, None)

    def clear(self, prefix: str, /) -> None:
        for key in self.scan(prefix):
            self.delete(key)

    def scan(self, prefix: str, /) -> Iterator[str]:
        return iter([key for key in list(self._answers) if key.startswith(prefix)])

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        return [self._answers.get(key) for key in keys]

    async def aget(self, key: str, /) -> bytes | None:
        return self.get(key)

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.set(key, value, ttl)

    async def adelete(self, key: str, /) -> None:
        self.delete(key)

    async def aclear(self, prefix: str, /) -> None:
        self.clear(prefix)

    async def aget_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        return self.get_many(keys)


def _packed(block: Block) -> bytes:
    return Entry(block.payload, 0.0, call=block.call).pack(block.key)
