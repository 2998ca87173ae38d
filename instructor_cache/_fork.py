"""What begins anew in the child of a fork, where the locks of other threads stay locked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_all: WeakKeyDictionary[object, Callable[[Any], None]] = WeakKeyDictionary()


def renew_after_fork(thing: T, renew: Callable[[T], None]) -> None:
    """See to it that ``renew(thing)`` is called in every child forked while *thing* lives."""
    _all[thing] = renew


def _renew_all() -> None:
    for thing, renew in list(_all.items()):
        renew(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
