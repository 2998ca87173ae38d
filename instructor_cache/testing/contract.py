"""What every backend must do, as tests that a backend of your own can be put to."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from .._bridge import drive, inline, threaded
from ..ports import Port, adapt, is_native, open_port
from ..protocols import AnyBackend, AsyncScannable, Scannable

_EVERY_BYTE = bytes(range(256))


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend under test, seen in one colour, with a namespace that nothing else uses."""

    backend: AnyBackend
    port: Port
    is_async: bool
    namespace: str

    def key(self, name: str) -> str:
        return f"{self.namespace}:{name}"

    async def get(self, name: str) -> bytes | None:
        return await self.port.get(self.key(name))

    async def set(self, name: str, value: bytes, ttl: float | None = None) -> None:
        await self.port.set(self.key(name), value, ttl)

    async def delete(self, name: str) -> None:
        await self.port.delete(self.key(name))

    async def swap(
        self, name: str, old: bytes | None, new: bytes | None, ttl: float | None = None
    ) -> bool:
        done = await self._swapper(self.key(name), old, new, ttl)
        assert type(done) is bool, f"swap gave {done!r}, not a bool"
        return done

    @property
    def get_many(self) -> Callable[..., Awaitable[list[bytes | None]]] | None:
        """Gives the values of many names; None if the backend can't."""
        name, backend = "aget_many" if self._is_native else "get_many", cast("Any", self.backend)
        if (method := getattr(backend, name, None)) is None:
            return None
        ask = method if self._is_native else (threaded if self.is_async else inline)(method)
        return lambda *names: ask([self.key(name) for name in names])

    @property
    def can_swap(self) -> bool:
        return hasattr(self.backend, "aswap" if self._is_native else "swap")

    @property
    def _swapper(self) -> Callable[..., Awaitable[bool]]:
        backend: Any = self.backend
        if self._is_native:
            return backend.aswap  # type: ignore[no-any-return]
        return (threaded if self.is_async else inline)(backend.swap)

    @property
    def _is_native(self) -> bool:
        return self.is_async and is_native(self.backend)

    @property
    def can_scan(self) -> bool:
        if self.is_async:
            return self._is_native and isinstance(self.backend, AsyncScannable)
        return isinstance(self.backend, Scannable)

    async def scan(self, prefix: str = "") -> list[str]:
        """The names that ``scan`` finds, sorted."""
        backend: Any = self.backend
        if self.is_async:
            found = sorted([key async for key in backend.ascan(self.key(prefix))])
        else:
            found = sorted(backend.scan(self.key(prefix)))
        assert all(key.startswith(self.key("")) for key in found), found
        return [key.removeprefix(self.key("")) for key in found]

    async def together(self, works: Iterable[Coroutine[Any, Any, Any]]) -> None:
        """Do all *works* at once: in tasks, or in threads."""
        if self.is_async:
            await asyncio.gather(*works)
        else:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(drive, works))


Check = Callable[[Any, Subject], Coroutine[Any, Any, None]]


def _in_each_colour(check: Check) -> Callable[[Any], None]:
    """Make a test of *check* that runs it in the colours that the backend offers."""

    def test(self: BackendContract) -> None:
        in_colour = [_passes(self, check, is_async=is_async) for is_async in (False, True)]
        assert any(in_colour), "no function of either colour can use this backend"

    test.__doc__ = check.__doc__
    return test


class BackendContract:
    """Tests that every backend passes, in each colour it offers.

    Subclass it in a test module, for pytest or together with `unittest.TestCase`::

        class TestMine(BackendContract):
            def make_backend(self):
                return Mine()

    What is tested may also be a ready client. Its store may hold other keys: the tests touch only
    their own, and clear them away afterwards if the backend can.

    Attributes:
        shared: Whether two backends from `make_backend` keep their entries in one place.
        short_ttl: The ttl of entries that are to expire, in seconds; raise it for a coarse clock.
    """

    shared = False
    short_ttl = 0.05

    def make_backend(self) -> Any:
        """Give a backend, ready for use."""
        raise NotImplementedError("make_backend() must return the backend to test")

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass for the backend; override it to advance a clock of your own."""
        time.sleep(seconds)

    @_in_each_colour
    async def test_a_key_that_was_never_set_is_none(self, store: Subject) -> None:
        """A missing key is None, and deleting it is fine."""
        assert await store.get("missing") is None
        await store.delete("missing")
        assert await store.get("missing") is None

    @_in_each_colour
    async def test_a_value_comes_back_byte_for_byte(self, store: Subject) -> None:
        """Every byte, no bytes, and a megabyte come back exactly, as bytes."""
        for value in (_EVERY_BYTE, b"", b"\x80\x04N.", b"text", _EVERY_BYTE * 4096):
            await store.set("value", value)
            found = await store.get("value")
            assert type(found) is bytes
            assert found == value

    @_in_each_colour
    async def test_the_last_value_wins(self, store: Subject) -> None:
        """Setting a key again replaces its value, whatever the sizes."""
        for value in (b"first", b"second" * 10_000, b"", b"last"):
            await store.set("again", value)
        assert await store.get("again") == b"last"

    @_in_each_colour
    async def test_a_deleted_key_is_gone_and_no_other(self, store: Subject) -> None:
        """Delete removes one key, not those that begin like it."""
        await store.set("a", b"1")
        await store.set("ab", b"2")
        await store.delete("a")
        assert await store.get("a") is None
        assert await store.get("ab") == b"2"

    @_in_each_colour
    async def test_any_printable_key_is_a_key(self, store: Subject) -> None:
        """Long keys, and keys of characters that mean something to somebody, are kept apart."""
        names = ["x" * 2000, *"*?[]\\%'\"/.:;-^{}~$", "a b", "../up", "%00", "a*", "[ab]", "ab"]
        for name in names:
            await store.set(name, name.encode())
        for name in names:
            assert await store.get(name) == name.encode(), name

    @_in_each_colour
    async def test_an_entry_expires_after_its_ttl(self, store: Subject) -> None:
        """An entry with a short ttl is gone after it; one without, or with a long one, is not."""
        await store.set("short", b"1", self.short_ttl)
        await store.set("fraction", b"2", 1000.5)
        await store.set("huge", b"3", 1e9)
        await store.set("never", b"4", None)
        self.pass_time(2 * self.short_ttl)
        found = [await store.get(name) for name in ("short", "fraction", "huge", "never")]
        assert found == [None, b"2", b"3", b"4"]

    @_in_each_colour
    async def test_setting_again_begins_a_new_ttl(self, store: Subject) -> None:
        """A later set lengthens, cancels or starts the ttl of an entry."""
        for name, first, then in (
            ("longer", self.short_ttl, 1000.0),
            ("cancelled", self.short_ttl, None),
            ("started", None, self.short_ttl),
        ):
            await store.set(name, b"old", first)
            await store.set(name, b"new", then)
        self.pass_time(2 * self.short_ttl)
        found = [await store.get(name) for name in ("longer", "cancelled", "started")]
        assert found == [b"new", b"new", None]

    @_in_each_colour
    async def test_an_expired_key_can_be_set_again(self, store: Subject) -> None:
        """A key whose entry has expired takes a new one."""
        await store.set("back", b"old", self.short_ttl)
        self.pass_time(2 * self.short_ttl)
        await store.set("back", b"new", None)
        assert await store.get("back") == b"new"

    @_in_each_colour
    async def test_many_callers_at_once_do_not_mix(self, store: Subject) -> None:
        """Threads and tasks that use it at once read whole values of their own keys."""

        async def use(number: int) -> None:
            value = b"%d," % number * 100
            for _ in range(3):
                await store.set(f"own{number}", value)
                assert await store.get(f"own{number}") == value
                await store.set("common", value)
                common = await store.get("common")
                assert common is not None
                assert len(set(common.split(b","))) == 2, "a torn value"

        await store.together(use(number) for number in range(24))

    @_in_each_colour
    async def test_many_values_come_in_the_order_of_their_keys(self, store: Subject) -> None:
        """If it can get many: each key's own value, as often as it is asked for, None where there
        is none or it has expired; a list of the same length, empty for no keys."""
        if store.get_many is None:
            return
        for name, value in (("a", b"1"), ("b", b""), ("c", _EVERY_BYTE)):
            await store.set(name, value)
        await store.set("dead", b"0", self.short_ttl)
        self.pass_time(2 * self.short_ttl)
        found = await store.get_many("c", "none", "a", "dead", "b", "c", "none")
        assert found == [_EVERY_BYTE, None, b"1", None, b"", _EVERY_BYTE, None]
        assert [type(value) for value in found[::2]] == [bytes, bytes, bytes, type(None)]
        assert await store.get_many() == []
        assert await store.get_many("none") == [None]

    @_in_each_colour
    async def test_thousands_of_values_come_at_once(self, store: Subject) -> None:
        """If it can get many: more keys than fit into a batch are all answered, each by its own."""
        if store.get_many is None:
            return
        for number in range(0, 1100, 7):
            await store.set(f"many:{number}", b"%d" % number)
        found = await store.get_many(*(f"many:{number}" for number in range(1100)))
        assert found == [None if n % 7 else b"%d" % n for n in range(1100)]

    @_in_each_colour
    async def test_scan_lists_the_live_keys_below_a_prefix(self, store: Subject) -> None:
        """If it can scan: every live key that begins with the prefix, once, and no other."""
        if not store.can_scan:
            return
        assert await store.scan() == []
        await store.set("dead", b"", self.short_ttl)
        self.pass_time(2 * self.short_ttl)
        names = ["a*b:1", "a*b:2", "axb:1", "a?b:1", "a[x]b:1", "a\\b:1", "a^b", "b"]
        for name in names:
            await store.set(name, b"")
        assert await store.scan() == sorted(names)
        assert await store.scan("a*b:") == ["a*b:1", "a*b:2"]
        for name in names:
            assert await store.scan(name) == [name]

    @_in_each_colour
    async def test_clear_deletes_below_a_prefix_only(self, store: Subject) -> None:
        """If it can clear: what begins with the prefix goes, glob characters reach nothing else."""
        if store.port.clear is None:
            return
        await store.port.clear(store.key("nothing"))
        names = ["a*:1", "a*:2", "ab:1", "[ab]:1", "a?:1", "\\a:1", "a:1", "b"]
        for prefix in ("a*:", "[ab]:", "a?:", "\\a:"):
            for name in names:
                await store.set(name, b"kept")
            await store.port.clear(store.key(prefix))
            left = [name for name in names if await store.get(name) is not None]
            assert left == [name for name in names if not name.startswith(prefix)]

    @_in_each_colour
    async def test_clear_deletes_thousands(self, store: Subject) -> None:
        """If it can clear: nothing is left of more keys than fit into a batch."""
        if store.port.clear is None:
            return
        for number in range(1100):
            await store.set(f"many:{number}", b"")
        await store.port.clear(store.key("many:"))
        assert [n for n in range(1100) if await store.get(f"many:{n}") is not None] == []

    @_in_each_colour
    async def test_swap_stores_where_nothing_is(self, store: Subject) -> None:
        """If it can swap: what is expected to be absent is stored if it is, and only then."""
        if not store.can_swap:
            return
        assert await store.swap("lock", None, b"mine") is True
        for late in (b"theirs", b"mine"):  # an equal one comes too late all the same
            assert await store.swap("lock", None, late) is False
        assert await store.get("lock") == b"mine"
        await store.delete("lock")
        assert await store.swap("lock", None, b"") is True
        assert await store.swap("lock", None, b"theirs") is False  # an empty value is one
        assert await store.get("lock") == b""

    @_in_each_colour
    async def test_swap_replaces_what_is_expected_only(self, store: Subject) -> None:
        """If it can swap: an equal old value is replaced; another one, or none, is left."""
        if not store.can_swap:
            return
        assert await store.swap("lock", b"old", b"new") is False
        assert await store.get("lock") is None
        for old, new in ((None, b"old"), (b"old", _EVERY_BYTE), (_EVERY_BYTE, b"")):
            assert await store.swap("lock", b"other", b"wrong") is False
            assert await store.swap("lock", old, new) is True
            assert await store.get("lock") == new
        assert await store.swap("lock", b"other", b"wrong") is False
        assert await store.get("lock") == b""

    @_in_each_colour
    async def test_swap_deletes_what_is_expected_only(self, store: Subject) -> None:
        """If it can swap: the new value None deletes an equal old value, and no other."""
        if not store.can_swap:
            return
        await store.set("lock", b"mine")
        assert await store.swap("lock", b"theirs", None) is False
        assert await store.get("lock") == b"mine"
        assert await store.swap("lock", None, None) is False
        assert await store.swap("lock", b"mine", None) is True
        assert await store.get("lock") is None
        assert await store.swap("lock", b"mine", None) is False
        assert await store.swap("lock", None, None) is True
        assert await store.get("lock") is None

    @_in_each_colour
    async def test_swap_gives_the_new_ttl(self, store: Subject) -> None:
        """If it can swap: what it stores lives as long as that swap said; a refused one changes
        no ttl."""
        if not store.can_swap:
            return
        await store.set("kept", b"1", self.short_ttl)
        assert await store.swap("kept", b"1", b"1", 1000.0)
        await store.set("for ever", b"1", self.short_ttl)
        assert await store.swap("for ever", b"1", b"2", None)
        assert await store.swap("short", None, b"1", self.short_ttl)
        await store.set("shortened", b"1")
        assert await store.swap("shortened", b"1", b"2", self.short_ttl)
        await store.set("refused", b"1")
        assert not await store.swap("refused", b"other", b"2", self.short_ttl)
        self.pass_time(2 * self.short_ttl)
        names = ("kept", "for ever", "short", "shortened", "refused")
        found = [await store.get(name) for name in names]
        assert found == [b"1", b"2", None, None, b"1"]

    @_in_each_colour
    async def test_swap_takes_an_expired_value_for_nothing(self, store: Subject) -> None:
        """If it can swap: where a value has expired nothing is, whatever it was."""
        if not store.can_swap:
            return
        await store.set("lock", b"dead", self.short_ttl)
        self.pass_time(2 * self.short_ttl)
        assert await store.swap("lock", b"dead", b"back") is False
        assert await store.swap("lock", b"dead", None) is False
        assert await store.get("lock") is None
        assert await store.swap("lock", None, b"new", 1000.0) is True
        assert await store.get("lock") == b"new"

    @_in_each_colour
    async def test_one_of_many_swaps_wins(self, store: Subject) -> None:
        """If it can swap: of many callers who want one key at once, one gets it."""
        if not store.can_swap:
            return
        for turn in range(5):
            winners: list[bytes] = []

            async def take(number: int, turn: int = turn, winners: Any = winners) -> None:
                token = b"%d" % number
                if await store.swap(f"lock{turn}", None, token, 1000.0):
                    winners.append(token)

            await store.together(take(number) for number in range(24))
            assert len(winners) == 1, f"{len(winners)} callers were told that they had it"
            assert await store.get(f"lock{turn}") == winners[0]

    @_in_each_colour
    async def test_swap_loses_no_increment(self, store: Subject) -> None:
        """If it can swap: a counter that many callers raise by it counts every one of them."""
        if not store.can_swap:
            return
        await store.set("count", b"0")

        async def add() -> None:
            for _ in range(3):
                done = False
                while not done:
                    old = await store.get("count")
                    assert old is not None
                    done = await store.swap("count", old, b"%d" % (int(old) + 1), 1000.0)

        await store.together(add() for _ in range(16))
        assert await store.get("count") == b"48"

    @_in_each_colour
    async def test_a_closed_backend_works_or_raises(self, store: Subject) -> None:
        """After close it opens anew, forgets, or raises; it never gives anything else."""
        await store.set("closed", b"value")
        await _close(store)
        with suppress(Exception):
            assert await store.get("closed") in (None, b"value")
        await _close(store)

    @_in_each_colour
    async def test_two_objects_over_one_store_see_each_other(self, store: Subject) -> None:
        """If the store is shared: what one backend does, another one finds."""
        if not self.shared:
            return
        other = _open(self.make_backend(), store.is_async, store.namespace)
        assert other is not None
        await store.set("shared", b"one")
        assert await other.get("shared") == b"one"
        await other.set("shared", b"two")
        assert await store.get("shared") == b"two"
        await store.delete("shared")
        assert await other.get("shared") is None
        await _close(other)


def _passes(contract: BackendContract, check: Check, *, is_async: bool) -> bool:
    """Whether the backend offers this colour; if so, *check* has passed."""
    store = _open(contract.make_backend(), is_async, f"contract-{uuid.uuid4().hex}")
    if store is None:
        return False

    async def run() -> None:
        try:
            await check(contract, store)
            if store.port.clear is not None and not getattr(store.backend, "closed", False):
                await store.port.clear(store.namespace)
        finally:
            await _close(store)

    (asyncio.run if is_async else drive)(run())
    return True


def _open(backend: Any, is_async: bool, namespace: str) -> Subject | None:
    backend = adapt(backend)
    try:
        return Subject(backend, open_port(backend, for_async=is_async), is_async, namespace)
    except TypeError:
        return None


async def _close(store: Subject) -> None:
    for name in ("close", "aclose") if store.is_async else ("close",):
        if (close := getattr(store.backend, name, None)) is not None:
            outcome = close()
            if isinstance(outcome, Awaitable):
                await cast("Awaitable[object]", outcome)
