"""Answers that arrive bit by bit: live when they are paid for, at once from then on.

The guide's example, annotated ``-> UserDetail``, returned the stream of `create_partial`; its
decorator took that for a model and crashed, when the answer was already paid for. Here it streams
on a miss, and gives the final result from then on. The annotation that tells the truth,
``-> Iterator[UserDetail]``, has all of it come again: each snapshot, in order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import InstructorCacheWarning, MemoryCache, instructor_cache

client = connect()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(memory)
def as_in_the_guide(data: str) -> UserDetail:
    return client.chat.completions.create_partial(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


@instructor_cache(memory)
def extract(data: str) -> Iterator[UserDetail]:
    return client.chat.completions.create_partial(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


@instructor_cache(memory)
def everybody(data: str) -> Iterator[UserDetail]:
    yield from client.chat.completions.create_iterable(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def main() -> None:
    jason = "Jason is 25 years old"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", InstructorCacheWarning)
        first, second = list(as_in_the_guide(jason)), list(as_in_the_guide(jason))
    print(f"as in the guide: {len(first)} snapshots, then {second}, {paid_calls()} paid of 2 calls")
    print(told[0].message)
    assert second == first[-1:] == [UserDetail(name="Jason", age=25)]
    assert paid_calls() == len(told) == 1

    first, second = list(extract(jason)), list(extract(jason))
    print(f"Iterator: {len(first)} snapshots, then {len(second)}, {paid_calls()} paid so far")
    assert first == second
    assert paid_calls() == 2

    both = f"{jason}. Sarah is 30 years old."
    running, late = everybody(both), everybody(both)
    print(f"{next(running).name} is here; who asks now: {[user.name for user in late]}")
    print(f"and later: {[user.name for user in everybody(both)]}, {paid_calls()} paid so far")
    assert paid_calls() == 3


if __name__ == "__main__":
    main()
