"""Two cached functions over three tiers, faults and odd clocks, held against a simple model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import BaseModel

from instructor_cache import (
    MISS,
    DiskCache,
    Event,
    MemoryCache,
    Tier,
    TieredCache,
    instructor_cache,
)
from instructor_cache.testing import FaultyBackend


class Answer(BaseModel):
    """What a function answered: to which question, and how many answers there were before."""

    function: str
    n: int
    serial: int


class Boom(Exception):
    """The function's own failure."""


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# -- the model -------------------------------------------------------------------------------

Question = tuple[str, int]  # the function's name and its argument


class Kept(NamedTuple):
    """An answer as the cache should keep it."""

    serial: int
    fresh_until: float


@dataclass
class ModelTier:
    """What one tier should hold, with its own idea of time."""

    name: str
    clock: Clock
    ttl: float
    drops: bool  # whether it drops what it finds expired, and so can't find it again
    held: dict[Question, tuple[Kept, float]] = field(default_factory=dict)

    def get(self, question: Question) -> Kept | None:
        kept, expires = self.held.get(question, (None, inf))
        if self.clock.now < expires:
            return kept
        if self.drops:
            del self.held[question]
        return None

    def set(self, question: Question, kept: Kept, now: float) -> None:
        left = min(self.ttl, kept.fresh_until - now)
        if left > 0:
            self.held[question] = kept, self.clock.now + left


class Model:
    """The tiers as they should be while none of them fails."""

    def __init__(self, wall: Clock, *tiers: ModelTier) -> None:
        self.wall, self.tiers = wall, tiers

    def find(self, question: Question, *, fill: bool = True) -> tuple[Kept, str] | None:
        for depth, tier in enumerate(self.tiers):
            kept = tier.get(question)
            if kept is not None and self.wall.now < kept.fresh_until:
                for nearer in self.tiers[:depth] if fill else ():
                    nearer.set(question, kept, self.wall.now)
                return kept, tier.name
        return None

    def set(self, question: Question, kept: Kept) -> None:
        for tier in self.tiers:
            tier.set(question, kept, self.wall.now)

    def delete(self, question: Question) -> None:
        for tier in self.tiers:
            tier.held.pop(question, None)


# -- the machine -----------------------------------------------------------------------------

FUNCTIONS = ("plain", "picky")
_QUESTIONS = st.tuples(st.sampled_from(FUNCTIONS), st.integers(0, 2))
_INSIDE = ["nothing"] * 4 + ["invalidate", "clear", "set", "refresh", "same", "other", "wait"]
_SECONDS = st.sampled_from([0.0, 1.0, 19.0, 21.0, 61.0, 290.0])

FAULTS: dict[str, Callable[[FaultyBackend], object]] = {
    "failing": lambda tier: tier.failing(),
    "failing get": lambda tier: tier.failing(on="get"),
    "failing set": lambda tier: tier.failing(OSError("disk full"), on="set"),
    "failing delete": lambda tier: tier.failing(on=["delete", "clear"]),
    "flaky": lambda tier: tier.failing(when=[n % 3 == 1 for n in range(1000)]),
    "losing replies": lambda tier: tier.losing_replies(),
    "truncated": lambda tier: tier.corrupt("truncated"),
    "empty": lambda tier: tier.corrupt("empty"),
    "foreign": lambda tier: tier.corrupt("foreign"),
    "text": lambda tier: tier.corrupt("text"),
    "torn": lambda tier: tier.torn(),
    "torn loudly": lambda tier: tier.torn(OSError("disk full")),
}


def picky_ttl(answer: Answer) -> float | None:
    """Question 0 is never kept, 1 for five minutes, 2 for ever."""
    return (0.0, 300.0, None)[answer.n]


class TwoFunctions(RuleBasedStateMachine):
    """Does things to two cached functions in any order, and knows what must come of each.

    A question is *certain* while the model knows what every tier holds for it: not after a fault,
    until it is written or deleted while all is well. For a certain question answer, tier and
    number of calls must be exactly the model's; for any other, what `check_served` says.
    """

    is_async = False
    with_disk = False

    @initialize()
    def start(self) -> None:
        self.wall, self.steady = Clock(1.7e9), Clock(500.0)
        self.folder = tempfile.mkdtemp()
        self.loop = asyncio.new_event_loop() if self.is_async else None
        middle: Any = MemoryCache(clock=self.wall)
        if self.with_disk:
            middle = DiskCache(self.folder, clock=self.wall, timeout=10)
        inner = (MemoryCache(clock=self.steady), middle, MemoryCache(clock=self.steady))
        self.tiers = [FaultyBackend(backend) for backend in inner]
        self.model = Model(
            self.wall,
            ModelTier("near", self.steady, 20.0, drops=True),
            ModelTier("middle", self.wall, inf, drops=not self.with_disk),
            ModelTier("far", self.steady, 1000.0, drops=True),
        )
        self.made: dict[Question, dict[int, float]] = {}  # fresh until, by serial
        self.floor: dict[Question, int] = {}  # the least serial that may be served
        self.certain = {(name, n) for name in FUNCTIONS for n in range(3)}
        self.serial = self.calls = 0
        self.script: list[tuple[str, bool]] = []  # what the next calls do inside
        self.overtaken: list[tuple[Question, list[bool]]] = []  # calls under way
        self.hits: list[str] = []
        self.functions = {name: self.make(name) for name in FUNCTIONS}

    def make(self, name: str) -> Any:
        def body(n: int) -> Answer:
            return self.body(name, n)

        async def abody(n: int) -> Answer:
            await asyncio.sleep(0)
            return self.body(name, n)

        func: Any = abody if self.is_async else body
        func.__name__ = func.__qualname__ = name
        near, middle, far = self.tiers
        tiers = TieredCache(
            Tier(near, ttl=20, name="near"),
            Tier(middle, name="middle"),
            Tier(far, ttl=1000, name="far"),
        )
        return instructor_cache(
            tiers,
            ttl=60 if name == "plain" else picky_ttl,
            clock=self.wall,
            observer=lambda event: self.hear(event),
        )(func)

    def hear(self, event: Event) -> None:
        if event.kind == "hit":
            assert event.tier is not None
            self.hits.append(event.tier)

    def teardown(self) -> None:
        if hasattr(self, "tiers"):
            for tier in self.tiers:
                tier.close()
            if self.loop is not None:
                self.loop.close()
            shutil.rmtree(self.folder)

    def do(self, method: Callable[..., Any], *args: Any) -> Any:
        if self.loop is None or not asyncio.iscoroutinefunction(method):
            return method(*args)
        if self.loop.is_running():  # from inside a call
            return _driven(method(*args))
        return self.loop.run_until_complete(asyncio.wait_for(method(*args), 60))

    # -- what is known -------------------------------------------------------------------

    @property
    def is_well(self) -> bool:
        return not any(tier._faults for tier in self.tiers)

    def keep(self, question: Question, serial: int) -> None:
        """An answer should have been stored now, in every tier."""
        ttl = 60.0 if question[0] == "plain" else picky_ttl(_answer(question, serial))
        until = inf if ttl is None else self.wall.now + ttl
        self.made.setdefault(question, {})[serial] = until
        if self.is_well and ttl != 0:
            self.certain.add(question)
            self.model.delete(question)
            self.model.set(question, Kept(serial, until))
            self.floor[question] = serial

    def drop(self, question: Question) -> None:
        """Nothing should be stored from now on, in any tier."""
        self.overtake(question)
        if self.is_well:
            self.certain.add(question)
            self.model.delete(question)
            self.floor[question] = self.serial + 1

    def overtake(self, question: Question) -> None:
        """Answers to *question* whose calls are under way must not be kept."""
        for under_way, overtaken in self.overtaken:
            if under_way == question:
                overtaken[0] = True

    def check_served(self, question: Question, answer: Answer) -> None:
        """What must be true of any answer that comes from the cache, whatever fails."""
        assert (answer.function, answer.n) == question, "another question's answer"
        assert answer.serial in self.made[question], "an answer that nobody gave"
        assert self.wall.now < self.made[question][answer.serial], "an expired answer"
        assert answer.serial >= self.floor.get(question, 0), "an answer from before it was dropped"

    # -- the functions' own doing --------------------------------------------------------

    def body(self, name: str, n: int) -> Answer:
        self.calls += 1
        question = (name, n)
        inside, fails = self.script.pop() if self.script else ("nothing", False)
        if inside == "wait":
            self.advance(5.0)
        elif inside == "same":
            self.call(question, "nothing", False)
        elif inside == "other":
            self.call((FUNCTIONS[FUNCTIONS.index(name) - 1], n), "nothing", False)
        elif inside != "nothing":
            getattr(self, inside)(question)
        if fails:
            raise Boom
        return self.answer(question)

    def answer(self, question: Question) -> Answer:
        self.serial += 1
        self.made.setdefault(question, {})[self.serial] = -inf  # not to be served, until kept
        return _answer(question, self.serial)

    # -- what is done --------------------------------------------------------------------

    @rule(question=_QUESTIONS, inside=st.sampled_from(_INSIDE), fails=st.booleans())
    def call(self, question: Question, inside: str, fails: bool) -> None:
        expected = self.model.find(question) if self.is_well else None
        is_certain = self.is_well and question in self.certain
        leads = not any(under_way == question for under_way, _ in self.overtaken)
        self.script.append((inside, fails))
        overtaken = [False]
        self.overtaken.append((question, overtaken))
        calls, hits, depth = self.calls, len(self.hits), len(self.script)
        try:
            answer = self.do(self.functions[question[0]], question[1])
        except Boom:
            assert fails
            answer = None
        finally:
            self.overtaken.pop()
        was_called = len(self.script) < depth
        del self.script[depth - 1 :]
        if is_certain:
            assert was_called == (expected is None), f"called: {was_called}, kept: {expected}"
            assert self.calls > calls or expected is not None
        if not was_called:
            assert answer is not None
            self.check_served(question, answer)
            assert self.calls == calls
            if is_certain:
                assert expected is not None
                assert (answer.serial, self.hits[hits:]) == (expected[0].serial, [expected[1]])
        elif answer is not None:
            assert answer == _answer(question, answer.serial)
            assert answer.serial == self.serial, "not the answer that was just given"
            if leads and not overtaken[0]:
                self.keep(question, answer.serial)

    @rule(question=_QUESTIONS, fails=st.booleans())
    def refresh(self, question: Question, fails: bool = False) -> None:
        self.overtake(question)
        self.script.append(("nothing", fails))
        calls = self.calls
        try:
            answer = self.do(self.functions[question[0]].cache_refresh, question[1])
        except Boom:
            assert fails
        else:
            assert answer == _answer(question, self.serial)
            self.keep(question, answer.serial)
            if picky_ttl(answer) == 0 and question[0] == "picky":
                self.drop(question)
        assert self.calls == calls + 1

    @rule(question=_QUESTIONS)
    def set(self, question: Question) -> None:
        self.overtake(question)
        answer = self.answer(question)
        self.do(self.functions[question[0]].cache_set, answer, question[1])
        self.keep(question, answer.serial)

    @rule(question=_QUESTIONS)
    def invalidate(self, question: Question) -> None:
        self.do(self.functions[question[0]].cache_invalidate, question[1])
        self.drop(question)

    @rule(question=_QUESTIONS)
    def clear(self, question: Question) -> None:
        self.do(self.functions[question[0]].cache_clear)
        for n in range(3):
            self.drop((question[0], n))

    @rule(question=_QUESTIONS)
    def get(self, question: Question) -> None:
        expected = self.model.find(question) if self.is_well else None
        calls = self.calls
        answer = self.do(self.functions[question[0]].cache_get, question[1])
        assert self.calls == calls
        if answer is not MISS:
            self.check_served(question, answer)
        if self.is_well and question in self.certain:
            assert (None if answer is MISS else answer.serial) == (expected and expected[0].serial)

    @rule(question=_QUESTIONS)
    def contains(self, question: Question) -> None:
        expected = self.model.find(question, fill=False) if self.is_well else None
        calls = self.calls
        found = self.do(self.functions[question[0]].cache_contains, question[1])
        assert self.calls == calls
        if self.is_well and question in self.certain:
            assert found == (expected is not None)

    @rule(seconds=_SECONDS)
    def advance(self, seconds: float) -> None:
        self.wall.now += seconds
        self.steady.now += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def jump(self, seconds: float) -> None:
        self.wall.now += seconds

    @rule(tier=st.integers(0, 2), fault=st.sampled_from(sorted(FAULTS)))
    def damage(self, tier: int, fault: str) -> None:
        FAULTS[fault](self.tiers[tier])
        self.certain.clear()

    @precondition(lambda self: not self.is_well)
    @rule()
    def heal(self) -> None:
        for tier in self.tiers:
            tier.heal()


def _answer(question: Question, serial: int) -> Answer:
    return Answer(function=question[0], n=question[1], serial=serial)


def _driven(coroutine: Any) -> Any:
    """Run a coroutine to its end inside a running loop; nothing here really waits."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as done:
        return done.value


class Async(TwoFunctions):
    is_async = True


class WithDisk(TwoFunctions):
    with_disk = True


def run(machine: type[TwoFunctions], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("machine", [TwoFunctions, Async, WithDisk])
def test_two_functions_agree_with_a_model(machine: type[TwoFunctions]) -> None:
    """Whatever is done, fails or jumps, no answer is wrong, expired or dropped, and no call is
    made that the cache could have saved."""
    run(machine, 60, 30)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [TwoFunctions, Async, WithDisk])
def test_two_functions_agree_with_a_model_for_long(machine: type[TwoFunctions]) -> None:
    """The same, for many more and longer histories."""
    run(machine, 1000, 60)
