"""What exactness costs, as ratios against Pydantic itself.

    python benchmarks/codec_speed.py

A and B run in turns in one process; a figure is the median of the ratios of the turns.
"""

from __future__ import annotations

import statistics
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, Field, PrivateAttr

sys.path.insert(0, str(Path(__file__).parent.parent))

from instructor_cache.codecs import codec_for

ROUNDS = 25


class Small(BaseModel):
    name: str
    age: int
    email: str | None = None


class Line(BaseModel):
    text: str
    price: float = Field(ge=0)
    tags: list[str] = []


class Invoice(BaseModel):
    id: int
    customer: Small
    lines: list[Line]


class Private(BaseModel):
    name: str
    age: int
    _seen: int = PrivateAttr(0)


SMALL = Small(name="Ada Lovelace", age=36, email="ada@example.com")
LINES = [Line(text=f"line {n}", price=n / 8, tags=["a", "b"]) for n in range(12)]
CASES: dict[str, BaseModel] = {
    "small model": SMALL,
    "1 KB model": Invoice(id=1, customer=SMALL, lines=LINES),
    "private attributes": Private(name="Ada", age=36),
}


def ratio(mine: str, theirs: str, names: dict[str, Any]) -> tuple[float, float, float]:
    """The median of mine over theirs, and the medians of both in microseconds."""
    number = calls_for_a_millisecond(theirs, names)
    ours: list[float] = []
    others: list[float] = []
    for _ in range(ROUNDS):
        ours.append(timeit.timeit(mine, globals=names, number=number) / number * 1e6)
        others.append(timeit.timeit(theirs, globals=names, number=number) / number * 1e6)
    ratios = [a / b for a, b in zip(ours, others, strict=True)]
    return statistics.median(ratios), statistics.median(ours), statistics.median(others)


def calls_for_a_millisecond(statement: str, names: dict[str, Any]) -> int:
    return max(10, int(5e-3 / timeit.timeit(statement, globals=names, number=100) * 100))


def main() -> None:
    print(
        f"pydantic {pydantic.VERSION}, Python {sys.version.split()[0]}, medians of {ROUNDS} turns"
    )
    for name, value in CASES.items():
        codec = codec_for(type(value))
        payload = codec.encode(value)
        dumped = value.model_dump_json()
        core: Callable[[str], Any] = type(value).__pydantic_validator__.validate_json
        names = {"decode": codec.decode, "encode": codec.encode, "payload": payload}
        names |= {"core": core, "value": value, "dumped": dumped, "dump": value.model_dump_json}
        form = "tagged" if payload.startswith(b"!") else "plain"
        print(f"{name} ({form}, {len(payload)} bytes)")
        for title, mine, theirs in (
            ("decode / bound core validator", "decode(payload)", "core(dumped)"),
            ("encode + decode + compare / model_dump_json", "encode(value)", "dump()"),
        ):
            found, ours, others = ratio(mine, theirs, names)
            print(f"  {title:45} {found:6.2f}   {ours:8.2f} us / {others:.2f} us")


if __name__ == "__main__":
    main()
