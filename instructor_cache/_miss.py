"""What stands for "nothing cached", where None would be an answer."""

from __future__ import annotations


class Miss:
    """The type of `MISS`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISS"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISS"


MISS = Miss()
