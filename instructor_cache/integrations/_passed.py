"""What a function may use and need not be read: it can't change who is asked, or what."""

from __future__ import annotations

import asyncio
import threading
import types
from typing import Any

from ._globals import is_standard
from ._sdk import home_of, is_absent, kind_of

__all__ = ["is_closed", "is_passed"]

# What watches, repeats or slows down calls.
_WATCHERS = frozenset(
    {
        *("logging", "structlog", "loguru", "opentelemetry", "logfire", "sentry_sdk", "ddtrace"),
        *("datadog", "prometheus_client", "statsd", "tenacity", "backoff", "aiolimiter"),
    }
)
# What is known by the names of its functions, whatever these read. Not all that is installed:
# there are packages, a company's own among them, whose functions choose a client.
_TOOLS = frozenset(
    {
        *("pydantic", "pydantic_core", "typing_extensions", "httpx", "httpx2", "requests", "anyio"),
        *("jinja2", "numpy", "tiktoken", "orjson", "yaml", "tqdm", "rich"),
    }
)
_LOCKS = (
    *(type(threading.Lock()), type(threading.RLock()), threading.Semaphore, threading.Condition),
    *(threading.Event, asyncio.Lock, asyncio.Semaphore, asyncio.Condition, asyncio.Event),
)


def is_passed(value: Any) -> bool:
    """Whether it is a module, a lock, a logger, or another object that only watches calls."""
    is_nothing = isinstance(value, (types.ModuleType, *_LOCKS)) or is_absent(value)
    return is_nothing or home_of(kind_of(value)) in _WATCHERS


def is_closed(thing: Any) -> bool:
    """Whether a function or class is known by its name: only what it has captured is read."""
    home = home_of(thing)
    return is_standard(home) or home in _WATCHERS | _TOOLS
