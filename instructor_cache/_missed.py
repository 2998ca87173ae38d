"""What a backend should have deleted while it failed: it must not come back with it."""

from __future__ import annotations

from time import monotonic

_MOST = 1000  # of a backend; beyond it the oldest is forgotten


class Missed:
    """Deletions that a backend was not there for: operations, and the key or prefix of each."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], None] = {}
        self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, operation: str, key: str) -> None:
        """Take note of a "delete" of *key*, or a "clear" of what begins with it."""
        self._all[operation, key] = None
        while len(self._all) > _MOST:
            self._all.pop(next(iter(self._all)), None)

    def made_up(self, operation: str, key: str, *_: object) -> None:
        """Take note that it was done after all."""
        self._all.pop((operation, key), None)

    def due(self) -> list[tuple[str, str]]:
        """Give all of them, but not more often than every second."""
        if monotonic() < self._due:
            return []
        self._due = monotonic() + 1.0
        return list(self._all)

    def of(self, key: str) -> list[tuple[str, str]]:
        """Give those that *key* should have been deleted by."""
        return [
            (operation, prefix)
            for operation, prefix in list(self._all)
            if key == prefix or (operation == "clear" and key.startswith(prefix))
        ]
