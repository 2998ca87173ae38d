"""How a ttl is written, and which odd ones are refused."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructor_cache.policy import Policy, seconds


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
    assert Policy(ttl="1m").lifetime("anything") == 60
    assert Policy(ttl=lambda result: f"{result}s").lifetime(5) == 5


def test_cache_if_must_be_callable():
    """A `cache_if` that can't be asked is told when the policy is made."""
    with pytest.raises(TypeError, match="cache_if is True"):
        Policy(cache_if=True)  # type: ignore[arg-type]
