"""Answers that outlive the process: in a folder of our own, and in a ready `diskcache.Cache`.

The published recipe keyed by ``repr`` of the arguments, so that two objects at one address shared
an answer, and read with diskcache's own Disk, which runs code that a row brings
(CVE-2025-69872). `SafeDisk` stores and reads nothing but bytes.
"""

from __future__ import annotations

import diskcache
from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import Cached, DiskCache, SafeDisk, instructor_cache

client = connect()


class UserDetail(BaseModel):
    name: str
    age: int


def extract(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


ready = diskcache.Cache("./.instructor_cache/diskcache", disk=SafeDisk)
in_a_folder = instructor_cache(DiskCache("./my_cache_directory"))(extract)
in_diskcache = instructor_cache(ready)(extract)


def show(place: str, cached: Cached[[str], UserDetail]) -> None:
    cached.cache_clear()  # what an earlier run has left
    first, second = cached("Jason is 25 years old"), cached("Jason is 25 years old")
    assert first == second == UserDetail(name="Jason", age=25)
    print(f"{place}: {second!r}; {cached.cache_explain('Jason is 25 years old').reason}")


def main() -> None:
    with ready:
        show("DiskCache", in_a_folder)
        show("diskcache.Cache", in_diskcache)
    print(f"{paid_calls()} paid calls, one for each cache")
    assert paid_calls() == 2


if __name__ == "__main__":
    main()
