"""What can go wrong, and what is only worth a warning.

InstructorCacheError
├── BackendError             a backend failed and the function says fail_open=False
├── BackendBusy              no connection or thread of this process is to be had
├── BackendClosed            a backend was used after its close()
├── NodeDown                 one node of a cluster fails, others answer
├── CacheMiss                (LookupError) offline mode has no answer to a call
├── UnkeyableArgument        (TypeError) an argument from which no stable key can be made
├── Unstorable               (ValueError) a result that its stored form would not restore exactly
├── CorruptEntry             (ValueError) stored bytes that are no entry, or another key's
├── StreamInterrupted        a shared stream was cut off, and another call gives other items
└── TransferInterrupted      a backend failed while entries were copied to or from it

InstructorCacheWarning       (UserWarning)
├── UnkeyableArgumentWarning the call went through uncached
├── UnstorableResultWarning  the answer was returned but not stored
└── BackendWarning           a store was set aside, can't be written, or isn't safe

Mistakes at decoration are plain ValueError and TypeError: they are the programmer's, not the
cache's, and no running program has a use for catching them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._mover import Transferred


class InstructorCacheError(Exception):
    """Base of every error that this package defines."""


class BackendError(InstructorCacheError):
    """A backend failed while ``fail_open`` was False.

    ``__cause__`` is its own error; there is none while the backend is left out without being asked.
    """


class BackendBusy(InstructorCacheError):
    """No connection or thread is to be had in this process, which says nothing of the backend."""


class BackendClosed(InstructorCacheError):
    """A backend was used after its ``close()``."""


class ReadOnly(InstructorCacheError, PermissionError):
    """A store can't be written, which says nothing about what it answers."""


class NodeDown(InstructorCacheError):
    """One node of a cluster fails, which says nothing about the keys of the others."""


class CacheMiss(InstructorCacheError, LookupError):
    """A cached function that is not to be called has no answer stored; the message tells it all.

    Attributes:
        function: Module and qualified name of the function.
        key: The key of the call; None if it has none.
        nearest: The key of the stored call of the function that is most like it, if any.
    """

    def __init__(
        self, message: str, function: str = "", key: str | None = None, nearest: str | None = None
    ) -> None:
        super().__init__(message)
        self.function, self.key, self.nearest = function, key, nearest

    def __reduce__(self) -> tuple[type[CacheMiss], tuple[str, str, str | None, str | None]]:
        return type(self), (str(self), self.function, self.key, self.nearest)


class UnkeyableArgument(InstructorCacheError, TypeError):
    """An argument has no stable key; the message names it and the remedies."""

    def __init__(self, message: str, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class Unstorable(InstructorCacheError, ValueError):
    """A result can't be stored so that a hit would equal it."""


class CorruptEntry(InstructorCacheError, ValueError):
    """Stored bytes are not an entry of this key in a version that we read."""


class StreamInterrupted(InstructorCacheError):
    """The call whose items a listener shared was cut off, and another call gives other items."""


class TransferInterrupted(InstructorCacheError):
    """A backend failed for longer than a transfer's patience; ``__cause__`` is its own error.

    What was copied stays. The same transfer, started again, goes on from there.

    Attributes:
        done: What was copied and skipped so far.
    """

    def __init__(self, message: str, done: Transferred) -> None:
        super().__init__(message)
        self.done = done

    def __reduce__(self) -> tuple[type[TransferInterrupted], tuple[str, Transferred]]:
        return type(self), (str(self), self.done)


class InstructorCacheWarning(UserWarning):
    """Base of every warning that this package gives."""


class UnkeyableArgumentWarning(InstructorCacheWarning):
    """A call went through uncached because one of its arguments has no stable key."""


class UnstorableResultWarning(InstructorCacheWarning):
    """A result was returned but not stored."""


class BackendWarning(InstructorCacheWarning):
    """A backend needs attention: set aside, read-only, or unsafe."""
