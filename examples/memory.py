"""The shortest way: answers stay in this process's memory, the ones used most are kept.

`functools.lru_cache` hands every caller the same object, so that one caller's change is what the
next one gets, and it calls once per thread when threads ask together. `lru` does neither.
"""

from __future__ import annotations

import time

from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import lru

client = connect()


class UserDetail(BaseModel):
    name: str
    age: int


@lru(maxsize=1000)
def extract(data: str, model: str = "gpt-4o-mini") -> UserDetail:
    return client.chat.completions.create(
        model=model,
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def timed(data: str) -> UserDetail:
    start = time.perf_counter()
    user = extract(data)
    print(f"{user!r} in {(time.perf_counter() - start) * 1000:.3f} ms")
    return user


def main() -> None:
    first = timed("Jason is 25 years old")
    first.name = "changed by its owner"
    second = timed("Jason is 25 years old")
    print(extract.cache_info())
    assert (second.name, second.age) == ("Jason", 25)
    assert paid_calls() == 1


if __name__ == "__main__":
    main()
