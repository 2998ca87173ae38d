"""For tests: recorded answers, what every backend must do, and one that fails on demand."""

from __future__ import annotations

from ._faults import Fault
from .cassette import BrokenCassette, Cassette, CassetteWarning
from .contract import BackendContract
from .faulty import FaultyBackend

__all__ = [
    "BackendContract",
    "BrokenCassette",
    "Cassette",
    "CassetteWarning",
    "Fault",
    "FaultyBackend",
]
