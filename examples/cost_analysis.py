"""What a hit rate is worth in money: first as the guide reckons it, then from a real count.

The published `calculate_cost_savings` divided by zero when nothing had been called yet.
"""

from __future__ import annotations

from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import CacheMetrics, MemoryCache, calculate_cost_savings, instructor_cache

client = connect()
metrics = CacheMetrics()

SCALES = {"Small": (1_000, 0.5), "Medium": (10_000, 0.7), "Large": (100_000, 0.8)}


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(MemoryCache(), observer=metrics)
def extract(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def monthly(calls_a_day: int, hit_rate: float) -> str:
    savings, percent = calculate_cost_savings(calls_a_day, hit_rate)
    return f"${savings * 30:,.2f} ({percent:.1f}%)"


def main() -> None:
    for name, scale in SCALES.items():
        print(f"{name} app: {monthly(*scale)} a month")
    print(f"Monthly savings: {monthly(10_000, 0.7)}")
    for _ in range(10):
        extract("Jason is 25 years old")
    calls = metrics.hits + metrics.misses
    print(f"Here: {calls} calls, {paid_calls()} paid; {monthly(10_000, metrics.hit_rate)} a month")
    assert monthly(10_000, 0.7) == "$420.00 (70.0%)"
    assert (metrics.hit_rate, paid_calls()) == (0.9, 1)


if __name__ == "__main__":
    main()
