"""How a ttl is written, and which odd ones are refused."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructor_cache.lifetimes import seconds
from instructor_cache.policy import Policy


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (None, None),
        (0, 0),
        (90, 90),
        (0.25, 0.25),
        (timedelta(minutes=2), 120),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1.5H", 5400),
        ("250ms", 0.25),
        ("0s", 0),
        (math.inf, None),
        (1e300, None),
        (10**400, None),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
    ],
)
def test_a_ttl_is_read_in_every_form(ttl: Any, expected: float | None):
    """Numbers, timedeltas and text with units are seconds; what never ends is None."""
    assert seconds(ttl) == expected


@pytest.mark.parametrize(
    "ttl",
    [
        *(-1, -0.001, -math.inf, math.nan, timedelta(-1), Decimal("NaN"), Decimal("sNaN")),
        *("5 parsecs", "", "s", "10", "1h30", "h1", "-5m", "1e3s", "1,5h"),
    ],
)
def test_an_odd_ttl_is_a_value_error(ttl: Any):
    """Negative, not a number, or unreadable: the message shows what was found and what works."""
    with pytest.raises(ValueError, match="ttl is .* must be"):
        seconds(ttl)


@pytest.mark.parametrize("ttl", [True, b"1h", [1], object(), 1j])
def test_a_ttl_of_another_type_is_a_type_error(ttl: Any):
    """A ttl that is no time at all is refused, booleans included."""
    with pytest.raises(TypeError, match="ttl is "):
        seconds(ttl)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
def test_text_adds_up(hours: int, minutes: int, rest: int):
    """Parts of a written ttl are added."""
    text = f"{hours}h{minutes}m{rest}s"
    assert seconds(text) == hours * 3600 + minutes * 60 + rest or hours > 876_000


def test_a_policy_reads_its_ttl_once():
    """A wrong ttl is told when the policy is made; a callable is asked for each result."""
    with pytest.raises(ValueError, match="parsecs"):
        Policy(ttl="5 parsecs")
    assert Policy(ttl="1m").life("anything", 1000.0) == (1060.0, 1060.0)
    assert Policy(ttl=lambda result: f"{result}s").life(5, 1000.0) == (1005.0, 1005.0)
    assert Policy().life("anything", 1000.0) == (inf, inf)
    assert Policy(ttl=0).life("anything", 1000.0) is None


@pytest.mark.parametrize("ttl", [lambda: 3, lambda result, question: 3])
def test_a_ttl_that_can_t_be_called_with_a_result_is_refused(ttl: Any):
    """Nothing would ever be stored, and no call would say so."""
    with pytest.raises(TypeError, match="ttl is .* called with the result"):
        Policy(ttl=ttl)


def test_an_answer_is_kept_after_its_ttl_for_the_stale_ttl():
    """`stale_ttl` reads every form that `ttl` does; infinity keeps for ever."""
    assert Policy(ttl=60, stale_ttl="1h").life("anything", 0.0) == (60.0, 3660.0)
    assert Policy(ttl=60, stale_ttl=inf).life("anything", 0.0) == (60.0, inf)


@given(jitter=st.floats(0, 0.99), ttl=st.floats(1, 10**6))
def test_jitter_takes_a_part_of_the_life_off_and_none_of_the_grace(jitter: float, ttl: float):
    """No answer outlives its ttl, none loses more than the jitter, each is kept as long after."""
    life = Policy(ttl=ttl, jitter=jitter, stale_ttl=50).life("anything", 0.0)
    assert life is not None
    fresh_until, kept_until = life
    assert ttl * (1 - jitter) - 1e-6 <= fresh_until <= ttl
    assert kept_until == fresh_until + 50


def test_jitter_spreads():
    """A thousand answers of one moment expire in many."""
    policy = Policy(ttl=1000, jitter=0.1)
    lives = [life for _ in range(1000) if (life := policy.life("anything", 0.0))]
    assert len({fresh_until for fresh_until, _ in lives}) > 900
    assert min(lives)[0] < 920
    assert max(lives)[0] > 980


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stale_ttl": -1}, "stale_ttl is -1; it must be 0 or more"),
        ({"stale_ttl": "soon"}, "stale_ttl is 'soon'"),
        ({"refresh_ahead": 1.0}, "refresh_ahead is 1.0"),
        ({"refresh_ahead": 0}, "refresh_ahead is 0"),
        ({"refresh_ahead": True}, "refresh_ahead is True"),
        ({"jitter": 1.0}, "jitter is 1.0"),
        ({"jitter": -0.1}, "jitter is -0.1"),
        ({"jitter": nan}, "jitter is nan"),
        ({"timeout": 0}, "timeout is 0; it must be seconds, more than 0"),
        ({"timeout": "1s"}, "timeout is '1s'"),
        ({"flight_timeout": -1}, "flight_timeout is -1; it must be seconds, 0 or more"),
        ({"lock_lease": 0}, "lock_lease is 0"),
        ({"lock_lease": inf}, "lock_lease is infinite"),
        ({"lock": True}, 'lock is True; it must be "backend" or None'),
    ],
)
def test_odd_options_are_refused(options: dict[str, Any], message: str):
    """What can't be meant is told when the policy is made: what was found and what is wanted."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Policy(**options)


def test_cache_if_must_be_callable():
    """A `cache_if` that can't be asked is told when the policy is made."""
    with pytest.raises(TypeError, match="cache_if is True"):
        Policy(cache_if=True)  # type: ignore[arg-type]
