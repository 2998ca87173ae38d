"""Answers that many machines share, in Redis, for an hour.

The published recipe asked a dead Redis twice a call, each time for as long as its socket let it,
and let a stored answer that no longer parsed break the call. Its keys had the bare function name,
so that two modules with an ``extract`` shared their answers.
"""

from __future__ import annotations

from _client import REDIS_URL, connect, paid_calls, redis_answers
from pydantic import BaseModel

from instructor_cache import instructor_cache_redis

client = connect()


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache_redis(ttl=3600, prefix="examples", url=REDIS_URL)
def extract(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def main() -> None:
    reachable = redis_answers()
    extract.cache_clear()  # what an earlier run has left
    first, second = extract("Jason is 25 years old"), extract("Jason is 25 years old")
    print(f"{second!r}, {paid_calls()} paid of 2 calls")
    if reachable:
        print(f"kept for an hour under {extract.cache_key('Jason is 25 years old')}")
    assert first == second == UserDetail(name="Jason", age=25)
    assert paid_calls() == (1 if reachable else 2)


if __name__ == "__main__":
    main()
