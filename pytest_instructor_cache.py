"""The pytest plugin of instructor_cache: answers of cached functions, recorded beside the test.

A module of its own, so that pytest starts no slower where no test uses the fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from instructor_cache.testing.cassette import Cassette

_MODES = ("once", "none", "all")
_ANEW = "run it with --instructor-cassette=all, which calls the functions"
_REPORTS = pytest.StashKey[list[pytest.TestReport]]()  # of the test's latest run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("instructor_cache").addoption(
        "--instructor-cassette",
        choices=_MODES,
        help="once (the default): play what is recorded, record where there is no file; none: "
        "never call a cached function; all: record everything anew",
    )
    parser.addini("instructor_cassette", "default of --instructor-cassette", default="once")


def pytest_configure(config: pytest.Config) -> None:
    _mode(config)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    outcome = yield
    if call.when == "setup":
        item.stash[_REPORTS] = []
    elif call.when == "call":  # the test's own comes last, after those of subtests
        item.stash.setdefault(_REPORTS, []).append(outcome.get_result())


@pytest.fixture
def instructor_cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """The cassette of the test, which every cached function uses instead of its own backend.

    It belongs to one test. A fixture for several tests takes a file of its own:
    ``with Cassette(path).playing():``, from ``instructor_cache.testing``.
    """
    from instructor_cache.testing._file import path_beside
    from instructor_cache.testing.cassette import BrokenCassette, Cassette

    try:
        path = path_beside(request.path, _name(request))
        cassette = Cassette(path, _mode(request.config), anew=_ANEW)
    except BrokenCassette as error:
        pytest.fail(str(error), pytrace=False)
    with cassette.standing_in():
        yield cassette
    cassette.save(is_complete=_is_passed(request.node.stash.get(_REPORTS, [])))


def _is_passed(reports: list[pytest.TestReport]) -> bool:
    if not reports or any(report.failed for report in reports):
        return False
    return reports[-1].passed or hasattr(reports[-1], "wasxfail")


def _mode(config: pytest.Config) -> Any:
    mode = config.getoption("--instructor-cassette") or config.getini("instructor_cassette")
    if mode not in _MODES:
        raise pytest.UsageError(
            f"found instructor_cassette = {mode!r} in the configuration; "
            f"it must be one of {', '.join(_MODES)}"
        )
    return mode


def _name(request: pytest.FixtureRequest) -> str:
    """The test's name in its module: with its class, and its parameters."""
    cls: Any = getattr(request, "cls", None)
    return f"{cls.__qualname__}.{request.node.name}" if cls else request.node.name
