"""What a backend should have deleted while it failed: it must not come back with it."""

from __future__ import annotations

from time import monotonic

_MOST = 1000  # of a backend; beyond it the oldest is forgotten


class Missed(dict[tuple[str, str], None]):
    """Deletions that a backend was not there for: operations, and the key or prefix of each."""

    _due = 0.0

    def add(self, operation: str, key: str) -> None:
        """Take note of a "delete" of *key*, or a "clear" of what begins with it."""
        self[operation, key] = None
        while len(self) > _MOST:
            self.pop(next(iter(self)), None)

    def made_up(self, operation: str, key: str, *_: object) -> None:
        """Take note that it was done after all."""
        self.pop((operation, key), None)

    def due(self) -> list[tuple[str, str]]:
        """Give all of them, but not more often than every second."""
        if monotonic() < self._due:
            return []
        self._due = monotonic() + 1.0
        return list(self)

    def of(self, key: str) -> list[tuple[str, str]]:
        """Give those that *key* should have been deleted by."""
        return [
            (operation, prefix)
            for operation, prefix in list(self)
            if key == prefix or (operation == "clear" and key.startswith(prefix))
        ]
