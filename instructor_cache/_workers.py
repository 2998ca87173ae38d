"""Daemon threads for work that may block: work that never ends keeps a thread, and nobody else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import RLock, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

from ._bridge import start
from ._fork import renew_after_fork
from .errors import BackendBusy

T = TypeVar("T")

_LIMIT, _MOST = 32, 128  # threads of one pool; and if they do not come back from their work
_LINGER = 0.25  # seconds that an idle thread stays
_STUCK = 5.0  # seconds without any progress after which no more work is queued


class Job(Future[T], Generic[T]):
    """Work that is queued, under way or done."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__()
        self._work = work
        self._context = copy_context()
        self.started_at: float | None = None

    def run(self) -> None:
        """Do the work, unless nobody waits for it any more."""
        self.started_at = monotonic()
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self._context.run(self._work))
        except BaseException as error:
            self.set_exception(error)


def in_daemon(work: Callable[[], T]) -> Job[T]:
    """Start *work* in a thread of its own, which holds up the end of no process and no loop.

    Raises BackendBusy if no thread can be started: that says nothing about any backend.
    """
    job = Job(work)
    _start(job.run, "instructor_cache")
    return job


def _start(work: Callable[..., None], name: str, *args: Any) -> None:
    try:
        start(Thread(target=work, args=args, name=name, daemon=True))
    except RuntimeError as error:
        raise BackendBusy(f"found no thread to be had ({error}), wanted one to wait in") from None


Inbox = SimpleQueue[Job[Any]]


class Workers:
    """Up to 32 threads, and more if those hang, that end soon after the work does.

    Not a `ThreadPoolExecutor`: that one's threads are waited for when the interpreter ends, so a
    disk that hangs would hang the whole program; and nobody else's work waits behind ours.
    """

    def __init__(self, name: str) -> None:
        self._name = f"instructor_cache-{name}"
        self.progress_at = 0.0
        self._renew()
        renew_after_fork(self, Workers._renew)

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """Have *work* done; raise BackendBusy if all threads hang in earlier work."""
        job = Job(work)
        with self._lock:
            is_stuck = monotonic() - self.progress_at > _STUCK
            if self._idle or self._threads < (_MOST if is_stuck else _LIMIT):
                self.progress_at = monotonic()
                (self._idle.pop() if self._idle else self._start()).put(job)
            elif is_stuck:
                raise BackendBusy(f"none of {_MOST} operations came back for {_STUCK:g} s")
            else:
                self._queue.append(job)
        return job

    def began(self, job: Job[Any]) -> float:
        """When *job* was begun; for one in the queue, when the last one made progress."""
        return self.progress_at if job.started_at is None else job.started_at

    def _start(self) -> Inbox:
        inbox = Inbox()
        _start(self._serve, self._name, inbox)
        self._threads += 1
        return inbox

    def _serve(self, inbox: Inbox) -> None:
        job: Job[Any] | None = inbox.get()
        while job is not None:
            job.run()
            if not job.cancelled() and job.exception() is None:
                self.progress_at = monotonic()  # a failure is none, for those who wait
            job = None  # or its result would be kept while we wait
            job = self._next(inbox)

    def _next(self, inbox: Inbox) -> Job[Any] | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=_LINGER)
        except Empty:
            return self._leave(inbox)

    def _leave(self, inbox: Inbox) -> Job[Any] | None:
        with self._lock:
            if inbox not in self._idle:
                return inbox.get()  # work came at the last moment
            self._idle.remove(inbox)
            self._threads -= 1
            return None

    def _renew(self) -> None:
        self._lock = RLock()
        self._idle: list[Inbox] = []
        self._queue: deque[Job[Any]] = deque()
        self._threads = 0
        self.progress_at = monotonic()
