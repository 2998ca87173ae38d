"""A lifetime for each kind of answer, from one table; or for each answer, from itself.

The published table was never connected to a cache, and a ttl of 0 would have meant "for ever".
"""

from __future__ import annotations

from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

client = connect()

CACHE_TTL = {
    "user_profiles": "1h",
    "real_time_data": "1m",
    "static_content": "1d",
    "expensive_computations": "7d",
    "never_stored": 0,
}


class UserDetail(BaseModel):
    name: str
    age: int


def ask(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def a_day_for_a_year_of_life(user: UserDetail) -> float:
    return user.age * 86_400


def main() -> None:
    for kind, ttl in {**CACHE_TTL, "by the answer": a_day_for_a_year_of_life}.items():
        extract = instructor_cache(MemoryCache(), ttl=ttl)(ask)
        extract("Jason is 25 years old")
        found = extract.cache_explain("Jason is 25 years old")
        print(f"{kind}: {found.outcome}, {found.expires_in or 0:,.0f} seconds left")
        assert found.outcome == ("miss" if ttl == 0 else "hit")
    assert paid_calls() == len(CACHE_TTL) + 1


if __name__ == "__main__":
    main()
