"""A cache that is down costs a call its hit, never its answer.

The published decorator lost falsy answers (``if cached :=``), logged every failure of a dead
backend at WARNING, and caught nothing that takes its time: a silent host held up every call. Here
each backend has a timeout, and an event tells the observer what was survived.
"""

from __future__ import annotations

import logging

from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import Event, RedisCache, TieredCache, instructor_cache

client = connect()
logging.getLogger("instructor_cache").setLevel(logging.ERROR)  # the observer prints instead


class UserDetail(BaseModel):
    name: str
    age: int


class BrokenBackend:
    """Raises whatever it is asked."""

    def get(self, key: str) -> bytes | None:
        raise OSError("read error")

    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        raise OSError("no space left on device")

    def delete(self, key: str) -> None:
        raise OSError("read-only file system")


def tell(event: Event) -> None:
    if event.kind == "failure":
        print(f"  survived {event.tier}: {type(event.error).__name__}: {event.error}")


nobody_listens = RedisCache("redis://127.0.0.1:1/0", timeout=0.2)


@instructor_cache(TieredCache(BrokenBackend(), nobody_listens), observer=tell)
def extract(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def main() -> None:
    for _ in range(2):
        user = extract("Jason is 25 years old")
        print(f"{user!r}, though no tier works")
        assert (user.name, user.age) == ("Jason", 25)
    assert paid_calls() == 2


if __name__ == "__main__":
    main()
