"""Whether a backend is worth asking: a circuit breaker (M. Nygard, Release It!, 2007)."""

from __future__ import annotations

import random
from threading import RLock
from time import monotonic
from typing import Literal

from ._discreet import told
from ._fork import renew_after_fork

_FAILURES = 10  # in a row, that open it however fast they were
_COST = 0.8  # of a timeout: the time that failures in a row may cost before they open it
_SHORTEST, _LONGEST = 0.25, 4.0  # seconds between two probes


class Breaker:
    """Closed while its backend works; open, so that it costs nothing, while it fails.

    Failures in a row open it when they have cost as much time as a timeout: a single silence
    does, while quick refusals need ten. Then one operation at a time is let through as a probe
    when it is due: at once, because it may have been only slow, and after 0.25 to 4 seconds,
    doubling each time, each shortened at random by up to a half so that replicas don't come back
    in step.

    Args:
        rests: The first probe is not due at once either, but after about a timeout.

    Attributes:
        is_open: Whether operations should be left out.
        reason: What opened it, or the last probe's error, as text: an exception would keep the
            frames it came through, and all that is in them, alive.
    """

    def __init__(self, *, rests: bool = False) -> None:
        self._rests = rests
        self.is_open = False
        self.failures = 0
        self._cost = 0.0
        self.reason = ""
        self._delay = 0.0
        self._due = 0.0
        self._probed_at: float | None = None
        self._renew()
        renew_after_fork(self, Breaker._renew)

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """What an operation would meet: *half-open* while a probe is under way."""
        if not self.is_open:
            return "closed"
        return "open" if self._probed_at is None else "half-open"

    def admits_probe(self, timeout: float) -> bool:
        """Whether the caller, who found it open, should probe the backend now.

        A probe that does not come back within *timeout* seconds has failed.
        """
        with self._lock:
            now = monotonic()
            if self._probed_at is not None and now - self._probed_at > timeout:
                self._wait_longer(self._probed_at + timeout)
            if self._probed_at is not None or now < self._due:
                return False
            self._probed_at = now
            return True

    def fail(self, error: BaseException, seconds: float, timeout: float) -> bool:
        """Count a failure that took *seconds*; tell whether it opened the breaker."""
        with self._lock:
            self.failures += 1
            self._cost += seconds
            is_dear = self._cost >= _COST * timeout > 0
            if self.is_open or not (is_dear or self.failures >= _FAILURES):
                return False
            self.is_open, self.reason = True, told(error)
            self._probed_at, self._delay, self._due = None, 0.0, 0.0
            if self._rests:
                self._delay = timeout / 2  # it doubles
                self._wait_longer(monotonic())
            return True

    def fail_probe(self, error: BaseException) -> None:
        """Take note that a probe failed."""
        with self._lock:
            if self.is_open:
                self.reason = told(error)
                self._wait_longer(monotonic())

    def succeed(self) -> bool:
        """Take note that the backend works; tell whether that closed the breaker."""
        with self._lock:
            was_open, self.is_open = self.is_open, False
            self.failures, self._cost, self.reason, self._probed_at = 0, 0.0, "", None
            return was_open

    def _wait_longer(self, since: float) -> None:
        self._delay = min(max(2 * self._delay, _SHORTEST), _LONGEST)
        self._due = since + self._delay * random.uniform(0.5, 1.0)
        self._probed_at = None

    def _renew(self) -> None:
        self._lock = RLock()
        self._probed_at = None
