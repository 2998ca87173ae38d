"""What all tests share: async tests without a plugin, both colours of function, a real Redis."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import sys
import time
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from redis_server import NONE_FOUND, Cluster, RedisServer, find_server

from instructor_cache import _stack

pytest_plugins = ["pytester"]

# How long an example takes is no property of ours: other programs on the machine decide it, too.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# To renew the epoch of a tag is a change that is heard: one test in hundreds would find less in
# memory than it put there. The test of renewals has them made every time.
_stack._RENEWED = 0.0

# For tests with a bound on seconds that other programs on the machine may well take up once. Not
# only assertions tell of it: where an operation has a timeout of its own, that one strikes first.
timed = pytest.mark.flaky(reruns=2)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run an ``async def`` test on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Close what a test that failed left open, in silence: its second try, or whichever test is
    under way when it is collected, would fail by the warning of it."""
    if getattr(sys, "last_traceback", None) is not None:  # whose frames hold it
        sys.last_type = sys.last_value = sys.last_traceback = sys.last_exc = None  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


class Colour:
    """Makes a cached function of one colour, and calls anything of it from an async test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name == "async"

    def __repr__(self) -> str:
        return self.name

    def function(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """*func*, written sync, as a function of this colour with the same name and types."""
        if not self.is_async:
            return func

        @functools.wraps(func)
        async def twin(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return func(*args, **kwargs)

        return twin

    async def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The outcome of *func*, whichever colour it has."""
        outcome = func(*args, **kwargs)
        return await outcome if isinstance(outcome, Awaitable) else outcome


def engine_of(cached: Any) -> Any:
    """The engine of a cached function."""
    return getattr(cached.cache_get, "__wrapped__", cached.cache_get).__self__.engine


def followers(cached: Any) -> int:
    """How many callers wait for calls of a cached function that are under way."""
    flights = engine_of(cached).flights._under_way
    return sum(len(each._condition._waiters) + len(each._done_callbacks) for each in list(flights))


def wait_for_followers(cached: Any, count: int) -> None:
    """Wait, in a thread, until so many callers wait."""
    deadline = time.monotonic() + 20
    while followers(cached) < count:
        assert time.monotonic() < deadline, "they did not come"
        time.sleep(0.001)


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """Spare the collections in a module's tests what was there before them: all other modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what others left open is not for this one to tell
        gc.collect()
    gc.freeze()


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Runs a test once for sync functions and once for coroutine functions."""
    return Colour(request.param)


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """The URL of a real Redis server that lasts for the session."""
    if url := os.environ.get("INSTRUCTOR_CACHE_TEST_REDIS_URL"):
        yield url
        return
    try:
        find_server()
    except RuntimeError:
        pytest.fail(NONE_FOUND)
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """The same server; tests that count or clear keys use a prefix of their own."""
    return redis_server_url


@pytest.fixture(scope="session")
def begun_cluster() -> Iterator[Cluster]:
    """A cluster of three nodes that lasts for the session, and is ready two seconds from now."""
    cluster = Cluster(3)
    try:
        yield cluster.begin()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def cluster(begun_cluster: Cluster) -> Cluster:
    """The same, ready. Who moves slots moves them back."""
    return begun_cluster.ready()


@pytest.fixture
def prefix() -> str:
    """A namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex}"
