"""One tier in one colour, which never keeps a caller waiting and never hurts one."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from ._breaker import Breaker
from ._bridge import Wait
from ._discreet import discreet, words
from ._health import Health
from .errors import BackendBusy, BackendClosed, BackendError, NodeDown
from .events import Announcer
from .ports import Port

_WRITES = ("set", "swap")  # a full store can't do these, but answers and deletes
_NO_FAULT = (BackendBusy, BackendClosed, NodeDown, RecursionError)  # of the caller, deep down
_PATIENCE = 0.02  # seconds to wait for a probe: one that works answers sooner


class Failed:
    """The type of `FAILED`, a backend's answer when it has none; an event has told why."""

    def __bool__(self) -> bool:
        return False


FAILED = Failed()


@dataclass(frozen=True, slots=True)
class Guard:
    """Asks a backend, within its time, unless it is known to fail.

    With *fail_open* its failures are events and FAILED; without it, BackendError.

    Attributes:
        name: What events call the tier.
    """

    name: str
    port: Port
    health: Health
    wait: Wait
    announce: Announcer
    fail_open: bool

    def ask(self, operation: str, key: str, *args: Any) -> Awaitable[Any]:
        """Give what the backend answers to *operation*, or FAILED.

        For "get_many" the *args* are further keys.
        """
        health = self.health
        if key.__class__ is not str:  # backends may be particular
            key = str(key)
        breaker = health.writes if operation in _WRITES else health.reads
        if breaker.is_open:
            return self._probe(breaker, operation, key, *args)
        if health.missed:
            return self._ask_late(breaker, operation, key, *args)
        return self._ask(breaker, operation, key, *args)

    async def _ask(self, breaker: Breaker, operation: str, key: str, *args: Any) -> Any:
        start = monotonic()
        try:
            answer = await getattr(self.port, operation)(key, *args)
        except Exception as error:
            return self.survive(operation, key, error, monotonic() - start)
        if breaker.failures:
            self._recover(breaker, key)
        return answer

    async def _probe(self, breaker: Breaker, operation: str, key: str, *args: Any) -> Any:
        """Ask a backend that failed, in the background, if it is time to; wait only briefly."""
        if not breaker.admits_probe(2 * self.port.timeout):
            return self._leave_out(breaker, operation, key)
        missed = self.health.missed
        try:
            asked = self.port.begin([(operation, key, *args)], missed.made_up)
        except Exception as error:
            breaker.fail_probe(error)
            return self._tell(operation, key, error)
        asked.add_done_callback(partial(self._end_probe, breaker, key))
        if not await self.wait(asked, _PATIENCE):
            return self._leave_out(breaker, operation, key)
        if (failure := asked.exception()) is not None:
            return self._tell(operation, key, failure)
        return FAILED if missed.of(*_keys(operation, key, args)) else asked.result()

    def _end_probe(self, breaker: Breaker, key: str, probe: Any) -> None:
        if probe.cancelled():
            breaker.fail_probe(TimeoutError("the probe was cancelled"))
        elif isinstance(error := probe.exception(), (NodeDown, type(None))):
            self._recover(breaker, key)
        else:
            breaker.fail_probe(error)

    def _recover(self, breaker: Breaker, key: str) -> None:
        if self.health.succeed(breaker):
            self.announce("closed", key, self.name)

    # -- deletions that the backend was not there for --------------------------------------

    def doubt(self, key: str) -> None:
        """Take note that what the backend has under *key*, if anything, is outdated."""
        self._add_missed("delete", key)

    def _add_missed(self, operation: str, key: str) -> None:
        self.health.missed.add(operation, key, can_clear=self.port.clear is not None)

    async def _ask_late(self, breaker: Breaker, operation: str, key: str, *args: Any) -> Any:
        """Ask a backend that has deletions to make up for; not about what they concern."""
        missed, keys = self.health.missed, _keys(operation, key, args)
        if due := missed.due():
            with suppress(BackendBusy):  # no thread is to be had
                catching_up = self.port.begin(due, missed.made_up)
                catching_up.add_done_callback(partial(self._end_late, key))
                if missed.of(*keys):
                    await self.wait(catching_up, _PATIENCE)
        if missed.of(*keys):
            return FAILED
        return await self._ask(breaker, operation, key, *args)

    def _end_late(self, key: str, catching_up: Any) -> None:
        """Tell that deletions still can't be made up for: until then nothing of them is cached."""
        if not catching_up.cancelled() and (error := catching_up.exception()) is not None:
            self.health.missed.put_off()
            self.announce("failure", key, self.name, error=discreet(error))

    # -- failures ----------------------------------------------------------------------------

    def survive(self, operation: str, key: str, error: Exception, seconds: float) -> Failed:
        """The one place where a backend's failure becomes an event, or the caller's error."""
        if isinstance(error, _NO_FAULT):
            return self._tell(operation, key, error)
        has_opened = self.health.fail(error, seconds, self.port.timeout)
        try:
            return self._tell(operation, key, error)
        finally:
            if has_opened:
                self.announce("opened", key, self.name, error=discreet(error))

    def _tell(self, operation: str, key: str, error: BaseException) -> Failed:
        self._miss(operation, key, error)
        error = discreet(error)
        if not self.fail_open:
            raise BackendError(
                f"{self.name} failed to {operation} {key}: {words(error)}"
            ) from error
        self.announce("failure", key, self.name, error=error)
        return FAILED

    def _miss(self, operation: str, key: str, error: BaseException | None) -> None:
        if operation in ("delete", "clear") and not isinstance(error, BackendClosed):
            self._add_missed(operation, key)

    def _leave_out(self, breaker: Breaker, operation: str, key: str) -> Failed:
        """Go on without the backend; what was to be deleted is the only thing worth telling."""
        error = BackendError(f"{self.name} is left out while it fails: {breaker.reason}")
        self._miss(operation, key, error)
        if not self.fail_open:
            raise error
        if operation in ("delete", "clear"):
            self.announce("failure", key, self.name, error=error)
        return FAILED


def _keys(operation: str, key: str, args: tuple[Any, ...]) -> tuple[str, ...]:
    """The keys that an operation is about."""
    return (key, *args) if operation == "get_many" else (key,)
