"""Prints how often the memory tier hits, beside an exact LRU and functools' own, on many traces.

Every number is the mean of some seeds, but the last column is the worst of all. Run with
``make bench``.
"""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from random import Random

from rich.console import Console
from rich.table import Table

from instructor_cache import MemoryCache

SIZES, SEEDS = (10, 100, 1000), (1, 2, 3)
Trace = Sequence[object]


def zipf(draw: Random, size: int, length: int, skew: float = 1.0) -> list[int]:
    """Demand in which the n-th key is asked for in proportion to 1 / n^skew."""
    weights = list(itertools.accumulate((n + 1) ** -skew for n in range(10 * size)))
    return draw.choices(range(10 * size), cum_weights=weights, k=length)


def with_scans(draw: Random, size: int, length: int) -> list[object]:
    """Zipf, and at times a run of as many keys as there is room for, never seen again."""
    demand, period = zipf(draw, size, length), 4 * size
    return [("scan", n) if n % period < size else key for n, key in enumerate(demand)]


def with_strangers(draw: Random, size: int, length: int) -> list[object]:
    """Zipf, with every third key one that is never seen again."""
    return [n if n % 3 else (key,) for n, key in enumerate(zipf(draw, size, length))]


def loop(share: float) -> Callable[[Random, int, int], list[int]]:
    """The same keys in the same order again and again, *share* of the room in all."""
    return lambda draw, size, length: [n % max(2, round(size * share)) for n in range(length)]


def shifting(share: float, rounds: int) -> Callable[[Random, int, int], list[int]]:
    """Any of *share* of the room; after so many *rounds*, none of them ever again."""

    def trace(draw: Random, size: int, length: int) -> list[int]:
        width = max(2, round(size * share))
        return [draw.randrange(width) + width * (n // (width * rounds)) for n in range(length)]

    return trace


def sliding(share: float, pace: int) -> Callable[[Random, int, int], list[int]]:
    """Any of *share* of the room; one of them is replaced after each *pace* requests."""

    def trace(draw: Random, size: int, length: int) -> list[int]:
        width = max(2, round(size * share))
        return [draw.randrange(width) + n // pace for n in range(length)]

    return trace


def returning(draw: Random, size: int, length: int) -> list[object]:
    """Half of the room, other keys, then the same half again; those others come in two rounds."""
    half = max(1, size // 2)
    hot: list[object] = [("hot", n) for n in range(half)]
    rounds = (hot + [(n // 2, cold) for cold in range(half)] + hot for n in itertools.count())
    return list(itertools.islice(itertools.chain.from_iterable(rounds), length))


TRACES: dict[str, Callable[[Random, int, int], Trace]] = {
    "Zipf, skew 0.7": functools.partial(zipf, skew=0.7),
    "Zipf, skew 1": zipf,
    "Zipf with scans": with_scans,
    "Zipf with strangers": with_strangers,
    "loop over 0.9 of the room": loop(0.9),
    "loop over 1.1 of the room": loop(1.1),
    "set of 0.8, shifts fast": shifting(0.8, 5),
    "set of 0.8, shifts slowly": shifting(0.8, 20),
    "set of 1.1, shifts fast": shifting(1.1, 5),
    "set of 1.0, slides fast": sliding(1.0, 5),
    "set of 1.0, slides slowly": sliding(1.0, 50),
    "half of it, others, and back": returning,
}


def ours(trace: Trace, size: int) -> float:
    """The share of *trace* that a MemoryCache with room for *size* entries answers."""
    cache, hits = MemoryCache(size, max_bytes=None), 0
    for wanted in trace:
        key = repr(wanted)
        if cache.get(key) is not None:
            hits += 1
        else:
            cache.set(key, b"", None)
    return hits / len(trace)


def lru(trace: Trace, size: int) -> float:
    """The same for functools.lru_cache, which is exact."""
    cached = functools.lru_cache(size)(lambda key: None)
    for key in trace:
        cached(key)
    info = cached.cache_info()
    return info.hits / (info.hits + info.misses)


def compare(name: str, size: int, seeds: Iterable[int], rounds: int) -> list[tuple[float, float]]:
    """Ours and LRU's ratio on the trace *name*, for each of *seeds*."""
    made = [TRACES[name](Random(seed), size, max(2000, rounds * size)) for seed in seeds]
    return [(ours(trace, size), lru(trace, size)) for trace in made]


def main() -> None:
    """Play all traces and print the table."""
    table = Table("demand", "room", "ours", "LRU", "worst", title="Hit ratio (aim: LRU - 0.01)")
    for name, size in itertools.product(TRACES, SIZES):
        found = compare(name, size, SEEDS, 40)
        means = (f"{statistics.mean(column):.3f}" for column in zip(*found, strict=True))
        table.add_row(name, f"{size:,}", *means, f"{min(a - b for a, b in found):+.4f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
