"""What a backend should have deleted while it failed: it must not come back with it."""

from __future__ import annotations

from time import monotonic

_MOST = 1000  # of a backend that can clear; _MANY of one that can't: then they are given up
_MANY = 100_000
_FIRST, _LAST = 0.25, 4.0  # seconds between two attempts to make up for them


class Missed(dict[tuple[str, str], None]):
    """Deletions that a backend was not there for: operations, and the key or prefix of each."""

    _due, _pause = 0.0, _FIRST

    def add(self, operation: str, key: str, *, can_clear: bool) -> None:
        """Take note of a "delete" of *key*, or a "clear" of what begins with it."""
        self[operation, key] = None
        if len(self) > (_MOST if can_clear else _MANY):
            self._shorten(can_clear)

    def _shorten(self, can_clear: bool) -> None:
        """Make of many deletions the clearing of all that their functions have stored."""
        for operation, key in list(self):
            self.pop((operation, key), None)
            if can_clear:
                self["clear", _namespace(key)] = None

    def made_up(self, operation: str, key: str, *_: object) -> None:
        """Take note that it was done after all."""
        self.pop((operation, key), None)
        self._pause = _FIRST

    def put_off(self) -> None:
        """Wait longer for the next attempt, as one has failed."""
        self._pause = min(2 * self._pause, _LAST)

    def due(self) -> list[tuple[str, str]]:
        """Give all of them, but not again and again."""
        if monotonic() < self._due:
            return []
        self._due = monotonic() + self._pause
        return list(self)

    def of(self, *keys: str) -> list[tuple[str, str]]:
        """Give those that one of *keys* should have been deleted by."""
        return [
            (operation, prefix)
            for operation, prefix in list(self)
            for key in keys
            if key == prefix or (operation == "clear" and key.startswith(prefix))
        ]


def _namespace(key: str) -> str:
    """What all keys of a function begin with, or of a prefix, or those of all tags."""
    parts = key.split(":")
    return ":".join([*parts[: min(2, len(parts) - 1)], ""])
