"""For tests: what every backend must do, and a backend that fails on demand."""

from __future__ import annotations

from ._faults import Fault
from .contract import BackendContract
from .faulty import FaultyBackend

__all__ = ["BackendContract", "Fault", "FaultyBackend"]
