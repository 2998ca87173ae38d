"""What begins anew in the child of a fork, where the locks of other threads stay locked."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    def renew(self) -> None:
        """Replace what must not be shared with the parent process."""
        ...


_all: WeakSet[Renewable] = WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """See to it that ``thing.renew()`` is called in every child that is forked from now on."""
    _all.add(thing)


def _renew_all() -> None:
    for thing in list(_all):
        thing.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
