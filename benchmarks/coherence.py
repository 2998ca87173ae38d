"""Prints how soon a change by another process leaves this one's memory, and what telling costs.

All is on this machine: a Redis server of its own, a second process that makes the changes, and for
the cost as many listeners as stated, each with a connection of its own as each replica has. Run
with ``python benchmarks/coherence.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from instructor_cache import MemoryCache, RedisCache, TieredCache, instructor_cache

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from other import OtherProcess, extract
from redis_server import RedisServer

CHANGES = 500
LISTENERS = (0, 1, 20, 100)
BEATS = 5.0  # seconds in which nothing changes


@contextmanager
def replicas(url: str, number: int) -> Iterator[list[MemoryCache]]:
    """Give the memories of so many replicas, which are told of changes."""
    caches = [TieredCache(MemoryCache(), RedisCache(url), coherent=True) for _ in range(number)]
    for cache in caches:
        cache.tiers[0].coherences[0].watch("bench:")
    try:
        until(lambda: not any(c.tiers[0].coherences[0].limit("bench:") for c in caches))
        yield [cache.tiers[0].backend for cache in caches]  # type: ignore[misc]
    finally:
        for cache in caches:
            cache.close()


def until(is_so: Any) -> float:
    while not is_so():
        time.sleep(0)
    return time.time()


def latencies(server: RedisServer, other: OtherProcess) -> list[float]:
    """Seconds from just before another process stores an answer to its end in this memory."""
    memory = MemoryCache()
    cache = TieredCache(memory, RedisCache(server.url), coherent=True)
    function: Any = instructor_cache(cache, prefix="bench")(extract)
    key = function.cache_key("ada")
    other.do("set", "bench", "ada", "first")
    function("ada")
    until(lambda: not cache.tiers[0].coherences[0].limit(key))
    seconds: list[float] = []
    for n in range(CHANGES):
        until(lambda: function("ada") and memory.get(key) is not None)
        began = other.do("set", "bench", "ada", f"{n}")
        seconds.append(until(lambda: memory.get(key) is None) - began)
    cache.close()
    return seconds


def cost(client: Any, memories: list[MemoryCache], burst: int) -> tuple[float, float]:
    """Bytes and CPU seconds of the server for a change, of which so many come at once."""
    keys = [f"bench:coherence.extract:{'0' * 16}:{n:032d}" for n in range(burst)]  # as long as ours
    before = client.info()
    for n in range(rounds := 2000 // burst):
        for memory in memories if n == rounds - 1 else ():
            memory.set(keys[-1], b"", None)
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(key, b"")
            pipeline.execute()
    until(lambda: not any(map(len, memories)))
    after = client.info()
    sent = after["total_net_output_bytes"] - before["total_net_output_bytes"]
    busy = sum(after[f"used_cpu_{kind}"] - before[f"used_cpu_{kind}"] for kind in ("user", "sys"))
    return sent / 2000, busy / 2000


def costs(server: RedisServer, client: Any, number: int) -> Iterator[str]:
    """What it costs the server to tell so many listeners."""
    with replicas(server.url, number) as memories:
        for burst in (1, 100):
            sent, busy = cost(client, memories, burst)
            yield from (f"{sent:.0f}", f"{busy * 1e6:.1f}")
        before = client.info("commandstats")
        time.sleep(BEATS)
        after = client.info("commandstats")
    beats = [each.get("cmdstat_ping", {"calls": 0})["calls"] for each in (before, after)]
    yield f"{(beats[1] - beats[0]) / BEATS:.0f}"


def main() -> None:
    console = Console()
    with RedisServer() as server, OtherProcess(server.url) as other:
        client: Any = redis.Redis.from_url(server.url)
        with client:
            version = client.info()["redis_version"]
            parts = quantiles(seconds := latencies(server, other), n=100)
            console.print(
                f"Redis {version}, {CHANGES} changes by another process, until they are dropped "
                f"here: median {parts[49] * 1e3:.2f} ms, p99 {parts[98] * 1e3:.2f} ms, "
                f"longest {max(seconds) * 1e3:.2f} ms"
            )
            heads = ("bytes", "CPU us", "bytes, of 100 at once", "CPU us, of 100 at once")
            table = Table("listeners", *(f"{h} a change" for h in heads), "PINGs/s when idle")
            for number in LISTENERS:
                table.add_row(f"{number}", *costs(server, client, number))
            console.print(table)


if __name__ == "__main__":
    main()
