"""The keys of calls made lately, found by their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_PLAIN = frozenset({str, bytes, int, bool, type(None)})  # equal and of one type is the same
_MOST = 1024  # calls
_LONGEST = 1000  # characters or bytes in an argument: to digest a longer one takes no longer

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Memo:
    """Gives the key of a call, from memory if it is known and its arguments are plain.

    Args:
        make: Makes the key of a call.
        is_pure: Whether the same arguments always have the same key.
    """

    def __init__(self, make: Callable[..., str], *, is_pure: bool) -> None:
        self._make, self._is_pure = make, is_pure
        self._keys: dict[Any, str] = {}

    def key(self, args: Args, kwargs: Kwargs) -> str:
        """Give the key, or raise what *make* raises."""
        call = _known_by(args, kwargs) if self._is_pure else None
        if call is None:
            return self._make(*args, **kwargs)
        key = self._keys.get(call)
        if key is None:
            if len(self._keys) >= _MOST:
                self._keys.clear()
            key = self._keys[call] = self._make(*args, **kwargs)
        return key


def _known_by(args: Args, kwargs: Kwargs) -> Any:
    """What stands for the arguments of a call in a dict; None if nothing does."""
    for value in args:
        if value.__class__ is not str or len(value) > _LONGEST:
            break
    else:
        if not kwargs:
            return args
    values = (*args, *kwargs.values())
    kinds = tuple(map(type, values))
    if not _PLAIN.issuperset(kinds) or any(_size(value) > _LONGEST for value in values):
        return None
    return values, kinds, tuple(kwargs)


def _size(value: Any) -> int:
    return len(value) if value.__class__ in (str, bytes) else 0
