"""Two cached functions over three tiers, faults and odd clocks, held against a simple model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf
from typing import Any, NamedTuple

import pytest
from conftest import engine_of
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
from instructor_cache._behind import Rests
from instructor_cache._bridge import drive
from instructor_cache._health import health_of
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
    """An answer as a tier should keep it."""

    serial: int
    made_at: float
    fresh_until: float
    kept_until: float
    seen_at: float = 0.0  # when it was first seen by a clock that had been put back
    is_stale: bool = False

    def age(self, now: float) -> float:
        return now - (self.made_at if now >= self.made_at else self.seen_at)

    def is_fresh(self, now: float) -> bool:
        return self.age(now) < self.fresh_until - self.made_at

    def is_kept(self, now: float) -> bool:
        return self.age(now) < self.kept_until - self.made_at


@dataclass
class ModelTier:
    """What one tier should hold, with its own idea of time."""

    name: str
    clock: Clock
    ttl: float
    drops: bool  # whether it drops what it finds expired, and so can't find it again
    held: dict[Question, tuple[Kept, float]] = field(default_factory=dict)

    def get(self, question: Question, now: float) -> Kept | None:
        kept, expires = self.held.get(question, (None, inf))
        if kept is None:
            return None
        if self.clock.now >= expires:
            if self.drops:
                del self.held[question]
            return None
        if now < kept.made_at and not 0 < kept.seen_at <= now:  # its life begins anew, once
            kept = kept._replace(seen_at=now)
            self.set(question, kept, kept.kept_until - now)
        return kept

    def set(self, question: Question, kept: Kept, left: float) -> None:
        if (left := min(self.ttl, left)) > 0:
            self.held[question] = kept, self.clock.now + left


class Model:
    """The tiers as they should be while none of them fails."""

    def __init__(self, wall: Clock, *tiers: ModelTier) -> None:
        self.wall, self.tiers = wall, tiers

    def find(self, question: Question, *, fill: bool = True) -> tuple[Kept, str] | None:
        for depth, tier in enumerate(self.tiers):
            kept = tier.get(question, self.wall.now)
            if kept is not None and kept.is_fresh(self.wall.now):
                self.set(question, kept, self.tiers[:depth] if fill else ())
                return kept, tier.name
        return None

    def fall_back(self, question: Question, rest: float) -> tuple[Kept, str] | None:
        """What is given in place of an error; an old answer serves for a while from now on."""
        now = self.wall.now
        found = [(tier.get(question, now), tier.name) for tier in self.tiers]
        usable = [(kept, name) for kept, name in found if kept is not None and kept.is_kept(now)]
        if not usable:
            return None
        kept, name = max(usable, key=lambda each: each[0].fresh_until)
        if not kept.is_fresh(now):
            until = min(kept.made_at + kept.age(now) + rest, kept.kept_until)
            holders = takewhile(lambda t: t.get(question, now) == kept, reversed(self.tiers))
            self.set(question, kept._replace(fresh_until=until, is_stale=True), tuple(holders))
        return kept, name

    def set(self, question: Question, kept: Kept, tiers: tuple[ModelTier, ...]) -> None:
        for tier in tiers:
            tier.set(question, kept, kept.kept_until - kept.made_at - kept.age(self.wall.now))

    def delete(self, question: Question) -> None:
        for tier in self.tiers:
            tier.held.pop(question, None)


# -- the machine -----------------------------------------------------------------------------

FUNCTIONS = ("plain", "picky")
_QUESTIONS = st.sampled_from(  # most of the time two, or their story would never get long
    [("plain", 0)] * 6 + [("picky", 1)] * 3 + [(name, n) for name in FUNCTIONS for n in range(3)]
)
_DOINGS = ["invalidate", "clear", "set", "refresh", "tag", "same", "other", "wait"]
_INSIDE = ["nothing"] * 4 + _DOINGS
_SECONDS = st.sampled_from([0.0, 1.0, 19.0, 21.0, 57.0, 61.0, 290.0])

NEAR, FAR = 20.0, 170.0  # seconds that these tiers keep an answer

FAULTS: dict[str, Callable[[FaultyBackend], object]] = {
    "failing": lambda tier: tier.failing(),
    "failing get": lambda tier: tier.failing(on="get"),
    "failing writes": lambda tier: tier.failing(OSError("disk full"), on=["set", "swap"]),
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


TTL, GRACE, REST = 60.0, 120.0, 30.0  # of the plain function


def picky_ttl(answer: Answer) -> float | None:
    """Question 0 keeps every second answer, 1 each for five minutes, 2 for ever."""
    return (300.0 * (answer.serial % 2), 300.0, None)[answer.n]


def life(question: Question, serial: int, now: float) -> tuple[float, float] | None:
    """Until when an answer is fresh and until when it is kept; None for not at all."""
    if question[0] == "plain":
        return now + TTL, now + TTL + GRACE
    ttl = picky_ttl(_answer(question, serial))
    until = inf if ttl is None else now + ttl
    return (until, until) if ttl != 0 else None


@dataclass
class UnderWay:
    """A call that has begun: its answer is not kept if there are later words on the question."""

    question: Question
    is_overtaken: bool = False


class TwoFunctions(RuleBasedStateMachine):
    """Does things to two cached functions in any order, and knows what must come of each.

    A question is *certain* while the model knows what every tier holds for it: not after a fault,
    until it is written or deleted while all is well. For a certain question answer, tier and
    number of calls must be exactly the model's; for any other, what `check_served` says.
    """

    is_async = False
    with_disk = False
    with_faults = False

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
            ModelTier("near", self.steady, NEAR, drops=True),
            ModelTier("middle", self.wall, inf, drops=not self.with_disk),
            ModelTier("far", self.steady, FAR, drops=True),
        )
        self.made: dict[Question, dict[int, tuple[float, float]]] = {}  # fresh and kept until
        self.floor: dict[Question, int] = {}  # the least serial that may be served
        self.certain = {(name, n) for name in FUNCTIONS for n in range(3)}
        self.serial = self.calls = 0
        self.script: list[tuple[str, bool]] = []  # what the next calls do inside
        self.under_way: list[UnderWay] = []
        self.hits: list[tuple[str, str]] = []
        self.broken: AssertionError | None = None  # inside a call: a stale answer would hide it
        self.functions = {name: self.make(name) for name in FUNCTIONS}

    def make(self, name: str) -> Any:
        def body(n: int) -> Answer:
            return drive(self.body((name, n)))

        async def abody(n: int) -> Answer:
            await asyncio.sleep(0)
            return await self.body((name, n))

        func: Any = abody if self.is_async else body
        func.__name__ = func.__qualname__ = name
        near, middle, far = self.tiers
        self.cache = tiers = TieredCache(
            Tier(near, ttl=NEAR, name="near"),
            Tier(middle, name="middle"),
            Tier(far, ttl=FAR, name="far"),
        )
        function = instructor_cache(
            tiers,
            ttl=TTL if name == "plain" else picky_ttl,
            stale_ttl=GRACE if name == "plain" else None,
            tags=() if name == "plain" else ("picky", lambda n: f"n{n}"),
            timeout=10,
            clock=self.wall,
            observer=lambda event: self.hear(event),
        )(func)
        # Where the farthest tier has it no more, an old answer serves by a clock that can't be set.
        engine_of(function).behind.failed = Rests(0)
        return function

    def hear(self, event: Event) -> None:
        if event.kind in ("hit", "stale"):
            assert event.tier is not None
            self.hits.append((event.kind, event.tier))

    def teardown(self) -> None:
        if hasattr(self, "tiers"):
            for tier in self.tiers:
                tier.close()
            if self.loop is not None:
                self.loop.close()
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        if self.loop is None:
            drive(work)
        else:
            self.loop.run_until_complete(asyncio.wait_for(work, 60))
        if self.broken is not None:
            raise self.broken

    async def ask(self, question: Question, method: str = "", *args: Any) -> Any:
        function = self.functions[question[0]]
        outcome = (getattr(function, f"cache_{method}") if method else function)(*args)
        return await outcome if self.is_async else outcome

    # -- what is known -------------------------------------------------------------------

    @property
    def is_well(self) -> bool:
        return not any(tier._faults for tier in self.tiers)

    def knows(self, question: Question) -> bool:
        return self.is_well and question in self.certain

    def find(self, question: Question, *, fill: bool = True) -> tuple[Kept, str] | None:
        return self.model.find(question, fill=fill) if self.is_well else None

    def keep(self, question: Question, serial: int) -> None:
        """An answer should have been stored now, in every tier."""
        now = self.wall.now
        if (times := life(question, serial, now)) is None:
            return
        self.made[question][serial] = times
        if self.is_well:
            self.certain.add(question)
            self.model.delete(question)
            self.model.set(question, Kept(serial, now, *times), self.model.tiers)

    def drop(self, question: Question) -> None:
        """Nothing should be stored from now on, in any tier."""
        self.overtake(question)
        self.floor[question] = self.serial + 1  # what a failing tier still has, too, is void
        if self.is_well:
            self.certain.add(question)
            self.model.delete(question)

    def overtake(self, question: Question) -> None:
        """Answers to *question* whose calls are under way must not be kept."""
        for under_way in self.under_way:
            under_way.is_overtaken |= under_way.question == question

    def check_served(self, question: Question, answer: Answer, times: int) -> None:
        """What must be true of any answer that comes from the cache, whatever fails.

        *times* is 0 for one that must be fresh, 1 for one that must be kept.
        """
        assert (answer.function, answer.n) == question, "another question's answer"
        assert answer.serial in self.made[question], "an answer that nobody gave"
        assert self.wall.now < self.made[question][answer.serial][times], "an expired answer"
        assert answer.serial >= self.floor.get(question, 0), "an answer from before it was dropped"

    # -- the functions' own doing --------------------------------------------------------

    async def body(self, question: Question) -> Answer:
        self.calls += 1
        inside, fails = self.script.pop()
        try:
            await self.do_inside(question, inside, fails)
        except AssertionError as error:
            self.broken = self.broken or error
            raise
        if fails:
            raise Boom
        return self.answer(question)

    async def do_inside(self, question: Question, inside: str, fails: bool) -> None:
        if inside == "wait":
            self.advance(5.0)
        elif inside == "same":
            await self.does_call(question, "nothing", fails)
        elif inside == "other":
            other = FUNCTIONS[FUNCTIONS.index(question[0]) - 1]
            await self.does_call((other, question[1]), "nothing", not fails)
        elif inside != "nothing":
            await getattr(self, f"does_{inside}")(question)

    def answer(self, question: Question) -> Answer:
        self.serial += 1
        self.made.setdefault(question, {})[self.serial] = (-inf, -inf)  # until it is kept
        return _answer(question, self.serial)

    # -- what is done --------------------------------------------------------------------

    async def does_call(self, question: Question, inside: str, fails: bool) -> None:
        expected, is_certain = self.find(question), self.knows(question)
        leads = all(each.question != question for each in self.under_way)
        calls, hits, depth = self.calls, len(self.hits), len(self.script)
        self.script.append((inside, fails))
        self.under_way.append(mine := UnderWay(question))
        try:
            answer = await self.ask(question, "", question[1])
        except Boom:
            assert fails
            answer = None
        finally:
            self.under_way.pop()
        was_called = len(self.script) == depth
        del self.script[depth:]
        if is_certain:
            assert was_called == (expected is None), f"called: {was_called}, kept: {expected}"
        if not was_called:
            assert answer is not None and self.calls == calls
            self.check_served(question, answer, 0 if self.hits[-1][0] == "hit" else 1)
            if expected is not None and is_certain:
                assert answer.serial == expected[0].serial
                kind = "stale" if expected[0].is_stale else "hit"
                assert self.hits[hits:] == [(kind, expected[1])]
        elif fails:
            self.check_failed(question, answer, not mine.is_overtaken)
        else:
            assert answer == _answer(question, self.serial), "not what was just answered"
            if leads and not mine.is_overtaken:
                self.keep(question, answer.serial)

    def check_failed(self, question: Question, answer: Answer | None, may_fall_back: bool) -> None:
        """The function failed: its own error, or an answer that is kept for that."""
        if answer is not None:
            assert may_fall_back and question[0] == "plain"
            self.check_served(question, answer, 1)
        if may_fall_back and self.is_well and question[0] == "plain":
            expected = self.model.fall_back(question, REST)
            if question in self.certain:
                assert (answer and answer.serial) == (expected and expected[0].serial)

    async def does_refresh(self, question: Question, fails: bool = False) -> None:
        self.overtake(question)
        self.script.append(("nothing", fails))
        calls = self.calls
        try:
            answer = await self.ask(question, "refresh", question[1])
        except Boom:
            assert fails
        else:
            assert answer == _answer(question, self.serial)
            self.keep(question, answer.serial)
            self.floor[question] = answer.serial
            if life(question, answer.serial, 0.0) is None:
                self.drop(question)
        assert self.calls == calls + 1

    async def does_set(self, question: Question) -> None:
        self.overtake(question)
        answer = self.answer(question)
        await self.ask(question, "set", answer, question[1])
        self.keep(question, answer.serial)
        if life(question, answer.serial, 0.0) is not None:
            self.floor[question] = answer.serial

    async def does_invalidate(self, question: Question) -> None:
        await self.ask(question, "invalidate", question[1])
        self.drop(question)

    async def does_clear(self, question: Question) -> None:
        await self.ask(question, "clear")
        for n in range(3):
            self.drop((question[0], n))

    async def does_tag(self, question: Question) -> None:
        """Forget what has a tag: one answer of the picky function, or all of them."""
        function, n = question
        tag = "picky" if function == "plain" else f"n{n}"
        if self.is_async:
            await self.cache.ainvalidate_tags(tag)
        else:
            self.cache.invalidate_tags(tag)
        for each in range(3) if tag == "picky" else [n]:
            self.drop(("picky", each))

    async def does_get(self, question: Question) -> None:
        expected, calls = self.find(question), self.calls
        answer = await self.ask(question, "get", question[1])
        if answer is not MISS:
            self.check_served(question, answer, 1)
        if self.knows(question):
            found = None if answer is MISS else answer.serial
            assert found == (expected and expected[0].serial)
        assert self.calls == calls

    async def does_contains(self, question: Question) -> None:
        expected, calls = self.find(question, fill=False), self.calls
        found = await self.ask(question, "contains", question[1])
        if self.knows(question):
            assert found == (expected is not None)
        assert self.calls == calls

    @rule(question=_QUESTIONS, inside=st.sampled_from(_INSIDE), fails=st.booleans())
    def call(self, question: Question, inside: str, fails: bool) -> None:
        self.run(self.does_call(question, inside, fails))

    @rule(question=_QUESTIONS, fails=st.booleans())
    def refresh(self, question: Question, fails: bool) -> None:
        self.run(self.does_refresh(question, fails))

    @rule(question=_QUESTIONS, what=st.sampled_from(["set", "invalidate", "clear", "tag"]))
    def change(self, question: Question, what: str) -> None:
        self.run(getattr(self, f"does_{what}")(question))

    @rule(question=_QUESTIONS, what=st.sampled_from(["get", "contains"]), seconds=_SECONDS)
    def look_later(self, question: Question, what: str, seconds: float) -> None:
        self.advance(seconds)
        self.run(getattr(self, f"does_{what}")(question))

    @rule(question=_QUESTIONS, seconds=_SECONDS, fails=st.booleans())
    def call_later(self, question: Question, seconds: float, fails: bool) -> None:
        self.advance(seconds)
        self.run(self.does_call(question, "nothing", fails))

    @rule(question=_QUESTIONS, seconds=st.sampled_from([-3600.0, 3600.0]), fails=st.booleans())
    def call_after_a_jump(self, question: Question, seconds: float, fails: bool) -> None:
        self.wall.now += seconds
        self.run(self.does_call(question, "nothing", fails))

    def advance(self, seconds: float) -> None:
        self.wall.now += seconds
        self.steady.now += seconds

    @precondition(lambda self: self.with_faults)
    @rule(tier=st.integers(0, 2), fault=st.sampled_from(sorted(FAULTS)))
    def damage(self, tier: int, fault: str) -> None:
        FAULTS[fault](self.tiers[tier])
        self.certain.clear()

    @precondition(lambda self: not self.is_well)
    @rule()
    def heal(self) -> None:
        for tier in self.tiers:
            tier.heal()
            health = health_of(tier)
            for breaker in (health.reads, health.writes):
                breaker.succeed()  # it would see for itself within 4 seconds
        self.run(self.catch_up())

    async def catch_up(self) -> None:
        """Have every tier delete what it should have deleted while it failed."""
        for tier in self.tiers:
            missed = health_of(tier).missed
            for _ in range(1000):
                if not missed:
                    break
                missed._due = 0.0  # else it would be up to a second
                for name in FUNCTIONS:
                    for n in range(3):
                        await self.ask((name, n), "contains", n)
                await asyncio.sleep(0) if self.is_async else time.sleep(0.001)
            assert not missed


def _answer(question: Question, serial: int) -> Answer:
    return Answer(function=question[0], n=question[1], serial=serial)


class Async(TwoFunctions):
    is_async = True


class WithDisk(TwoFunctions):
    with_disk = True


class WithFaults(TwoFunctions):
    with_faults = True


class AsyncWithFaults(Async, WithFaults):
    pass


class DiskWithFaults(WithDisk, WithFaults):
    pass


MACHINES = [TwoFunctions, Async, WithDisk, WithFaults, AsyncWithFaults, DiskWithFaults]


def run(machine: type[TwoFunctions], examples: int, steps: int) -> None:
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=how)


@pytest.mark.parametrize("machine", MACHINES)
def test_two_functions_agree_with_a_model(machine: type[TwoFunctions]) -> None:
    """Whatever is done, fails or jumps, no answer is wrong, expired or dropped, and no call is
    made that the cache could have saved."""
    run(machine, 20, 25)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_two_functions_agree_with_a_model_for_long(machine: type[TwoFunctions]) -> None:
    """The same, for many more and longer histories."""
    run(machine, 40, 40)
