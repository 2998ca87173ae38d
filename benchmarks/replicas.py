"""Simulates 100 replicas of a service over one Redis, and prints what each arrangement costs.

Every replica has its own caches and connections, as if it were alone on a host, and calls its own
cached function at random moments with keys that follow Zipf's law. The provider behind it takes
30 ms, counts its calls in a server of its own, and knows the version of every answer. Now and then
a replica changes a key at the provider and invalidates it. An answer counts as stale if the
invalidation had returned more than 100 ms before that answer was asked for. All begin at once with
nothing in their caches; latencies are those after the first third of the time.

Run with ``make replicas``; ``--help`` names what can be changed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import logging
import multiprocessing
import random
import socket
import sys
import time
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import redis
import redis.asyncio
from pydantic import BaseModel

from instructor_cache import (
    Entry,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    instructor_cache,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from redis_server import RedisServer

CALL = 0.03  # seconds that the provider takes
GRACE = 0.1  # seconds after an invalidation in which an old answer may still be given
NEAR_TTL = 5.0  # seconds, of a near tier that is not coherent
PATIENCE = 5.0  # seconds: that a hundred hosts share two cores is no fault of Redis
AT_ONCE = 4  # calls of one replica; others wait for their turn
TEXT = "x" * 1000  # of every answer


class Answer(BaseModel):
    key: int
    version: int
    text: str


@dataclass(frozen=True)
class Load:
    """What is asked for."""

    replicas: int
    processes: int
    seconds: float
    rate: float  # calls per second and replica
    keys: int
    changes: float  # part of the keys that changes per second
    skew: float


@dataclass
class Told:
    """What one process, or all of them, has seen. Times are by the machine's monotonic clock."""

    answers: list[tuple[int, int, float]] = field(default_factory=list)  # key, version, asked at
    changes: list[tuple[int, int, float]] = field(default_factory=list)  # key, version, done at
    latencies: list[float] = field(default_factory=list)
    warm_at: float = 0.0  # from then on latencies count
    near_hits: int = 0
    failures: int = 0  # that the cache told of
    errors: int = 0
    lateness: float = 0.0  # of the latest call, by its own plan: the machine held it up


def memory(url: str) -> Any:
    return Tier(MemoryCache(None), ttl=NEAR_TTL)


def far(url: str) -> Any:
    return RedisCache(url, timeout=PATIENCE)


def both(url: str) -> Any:
    return TieredCache(memory(url), far(url))


def coherent(url: str) -> Any:
    return TieredCache(MemoryCache(None), far(url), coherent=True)


ROWS: dict[str, tuple[Callable[[str], Any] | None, dict[str, Any]]] = {
    "no cache": (None, {}),
    f"memory only, ttl {NEAR_TTL:g} s": (memory, {}),
    "Redis only": (far, {}),
    f"memory ({NEAR_TTL:g} s) + Redis": (both, {}),
    "memory + Redis, coherent": (coherent, {}),
    "... and lock=backend": (coherent, {"lock": "backend"}),
}


# -- in each process ----------------------------------------------------------------------------


class Provider:
    """The expensive thing behind the cache; all that it knows is in a Redis of its own."""

    def __init__(self, url: str) -> None:
        self.client = redis.asyncio.Redis.from_url(url, max_connections=1000)

    async def ask(self, key: int) -> Answer:
        pipe = self.client.pipeline(transaction=False).incr("calls").hget("versions", str(key))
        _, version = await pipe.execute()
        await asyncio.sleep(CALL)
        return Answer(key=key, version=int(version or 0), text=TEXT)

    async def change(self, key: int) -> int:
        return int(await self.client.hincrby("versions", str(key), 1))


class Replica:
    """One host: caches, connections and a cached function of its own."""

    def __init__(self, name: str, url: str, provider: Provider, told: Told) -> None:
        make, options = ROWS[name]
        self.told, self.provider, self.is_cached = told, provider, make is not None
        self.backend = None if make is None else make(url)
        self.turns = asyncio.Semaphore(AT_ONCE)

        async def ask(key: int) -> Answer:
            return await provider.ask(key)

        self.ask: Any = ask
        if self.is_cached:

            def observe(event: Event) -> None:
                told.near_hits += event.kind == "hit" and event.tier == "memory"
                told.failures += event.kind == "failure"

            decorate = instructor_cache(
                self.backend, ttl="1h", prefix="replicas", observer=observe, **options
            )
            self.ask = decorate(ask)

    async def call(self, key: int) -> None:
        async with self.turns:
            await self._call(key)

    async def _call(self, key: int) -> None:
        start = time.monotonic()
        try:
            answer = await self.ask(key)
        except Exception:
            self.told.errors += 1
            return
        if start > self.told.warm_at:
            self.told.latencies.append(time.monotonic() - start)
        self.told.answers.append((key, answer.version, start))

    async def change(self, key: int) -> None:
        version = await self.provider.change(key)
        if self.is_cached:
            await self.ask.cache_invalidate(key)
        self.told.changes.append((key, version, time.monotonic()))

    async def close(self) -> None:
        if (close := getattr(self.backend, "aclose", None)) is not None:
            await close()


def work(name: str, load: Load, number: int, urls: tuple[str, str], start: Any, out: Any) -> None:
    """What a process does: its part of the replicas, for the time of the load."""
    warnings.simplefilter("ignore")
    logging.disable()
    told = asyncio.run(simulate(name, load, number, urls, start))
    out.send(told)
    out.close()


async def simulate(name: str, load: Load, number: int, urls: tuple[str, str], start: Any) -> Told:
    told, rng = Told(), random.Random(number)
    provider = Provider(urls[1])
    count = load.replicas // load.processes
    replicas = [Replica(name, urls[0], provider, told) for _ in range(count)]
    keys = zipf(load)
    if replicas[0].is_cached:  # connections are made, imports are done
        await asyncio.gather(*(replica.ask.cache_get(-1) for replica in replicas))
        await asyncio.sleep(0.5)
    gc.collect()
    gc.freeze()
    await asyncio.to_thread(start.wait, 60)
    began = time.monotonic()
    told.warm_at = began + load.seconds / 3
    calls = poisson(load.rate * count, lambda: rng.choice(replicas).call(keys(rng)), told)
    changed = load.changes * load.keys / load.processes
    changes = poisson(changed, lambda: rng.choice(replicas).change(keys(rng)), told)
    await asyncio.gather(calls(rng, began + load.seconds), changes(rng, began + load.seconds))
    await asyncio.to_thread(start.wait, 60)  # the counts are read before connections are closed
    await asyncio.to_thread(start.wait, 60)
    await asyncio.gather(*(replica.close() for replica in replicas))
    await provider.client.aclose()
    return told


def poisson(rate: float, begin: Callable[[], Awaitable[None]], told: Told) -> Any:
    """Give what begins something *rate* times a second, at random, and waits for the last."""

    async def run(rng: random.Random, until: float) -> None:
        tasks: set[Any] = set()
        at = time.monotonic()
        while rate and (at := at + rng.expovariate(rate)) < until:
            if (pause := at - time.monotonic()) > 0.001:
                await asyncio.sleep(pause)
            told.lateness = max(told.lateness, time.monotonic() - at)
            tasks.add(task := asyncio.ensure_future(begin()))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    return run


def zipf(load: Load) -> Callable[[random.Random], int]:
    """Give what draws keys, the n-th of which is asked for in proportion to 1/n**skew."""
    weights = list(itertools.accumulate(1 / n**load.skew for n in range(1, load.keys + 1)))
    return lambda rng: bisect_right(weights, rng.random() * weights[-1])


# -- in the first process -----------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What one arrangement cost."""

    name: str
    told: Told
    provider_calls: int
    commands: int
    bytes: int
    cpu: float  # seconds of Redis
    connections: int


def measure(name: str, load: Load) -> Row:
    """Run the load over one arrangement, with servers that are new."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(load.processes + 1)
    with RedisServer("--maxclients", "5000") as store, RedisServer() as counts:
        pipes = [context.Pipe(duplex=False) for _ in range(load.processes)]
        urls = store.url, counts.url
        processes = [
            context.Process(target=work, args=(name, load, n, urls, start, pipe[1]), daemon=True)
            for n, pipe in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        try:
            return watch(name, load, start, [pipe[0] for pipe in pipes], urls)
        finally:
            start.abort()
            for process in processes:
                process.join(10)
                process.kill()


def watch(name: str, load: Load, start: Any, pipes: list[Any], urls: tuple[str, str]) -> Row:
    with redis.Redis.from_url(urls[0]) as store, redis.Redis.from_url(urls[1]) as counts:
        while start.n_waiting < load.processes:
            time.sleep(0.05)
        before = store.info()
        start.wait(60)
        start.wait(load.seconds + 60)
        after = store.info()
        calls = int(counts.get("calls") or 0)
        start.wait(60)
        told = joined([pipe.recv() for pipe in pipes])
    totals = ("total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")
    commands, *sizes = (after[each] - before[each] for each in totals)
    connections = after["connected_clients"] - 1  # without ours
    cpu = sum(after[key] - before[key] for key in ("used_cpu_user", "used_cpu_sys"))
    return Row(name, told, calls, commands, sum(sizes), cpu, connections)


def joined(parts: list[Told]) -> Told:
    whole = Told()
    for part in parts:
        whole.answers += part.answers
        whole.changes += part.changes
        whole.latencies += part.latencies
        whole.near_hits += part.near_hits
        whole.failures += part.failures
        whole.errors += part.errors
        whole.lateness = max(whole.lateness, part.lateness)
    return whole


def stale(told: Told) -> tuple[int, float]:
    """How many answers were older than an invalidation of GRACE before, and by how much at most."""
    changes: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for key, version, done in told.changes:
        changes[key].append((done, version))
    count, worst = 0, 0.0
    for key, version, asked in told.answers:
        newer = [done for done, other in changes[key] if other > version and done < asked]
        if newer and asked - min(newer) > GRACE:
            count, worst = count + 1, max(worst, asked - min(newer))
    return count, worst


# -- what carries over to more replicas ----------------------------------------------------------


def unit_costs() -> str:
    """What one thing of each kind costs a Redis server, whose own word is taken for it."""
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        cache, version = RedisCache(server.url), client.info()["redis_version"]
        keys = [f"replicas:ask:0123456789abcdef:{n:032x}" for n in range(5000)]
        now = time.time()
        value = Entry(Answer(key=1, version=1, text=TEXT).model_dump_json().encode(), now)
        _, entry = cost(client, lambda: [cache.set(key, value.pack(key), 3600) for key in keys])
        got, _ = cost(client, lambda: [cache.get(key) for key in keys])
        parts = [keys[n : n + 50] for n in range(0, len(keys), 50)]
        together, _ = cost(client, lambda: [cache.get_many(part) for part in parts])
        ears: list[socket.socket] = []
        _, ear = cost(client, lambda: ears.extend(listening(server.port) for _ in range(EARS)))
        told: list[int] = []
        push, _ = cost(client, lambda: told.extend(heard(cache, keys[:CHANGES], ears)))
        for sock in ears:
            sock.close()
        cache.close()
    return (
        f"Redis {version}, per piece: an answer of {len(TEXT):,} bytes takes "
        f"{entry / len(keys):,.0f} bytes of its memory, a listening connection {ear / EARS:,.0f};\n"
        f"a GET takes {got / len(keys) * 1e6:.1f} us of its CPU, a key of an MGET of 50 "
        f"{together / len(keys) * 1e6:.1f} us; to tell a connection of a change "
        f"{push / EARS / CHANGES * 1e6:.1f} us and {sum(told) / EARS / CHANGES:.0f} bytes"
    )


EARS, CHANGES = 500, 200


def cost(client: Any, work: Callable[[], object]) -> tuple[float, int]:
    """Give the CPU seconds and the bytes of memory that *work* takes of a server."""
    before = client.info()
    work()
    after = client.info()
    cpu = sum(after[key] - before[key] for key in ("used_cpu_user", "used_cpu_sys"))
    return cpu, after["used_memory"] - before["used_memory"]


def listening(port: int) -> socket.socket:
    """A connection that is told of every change below our prefix."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.sendall(b"HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX replicas:\r\n")
    reply = b""
    while not reply.endswith(b"+OK\r\n"):
        reply += sock.recv(65536)
    return sock


def heard(cache: RedisCache, keys: list[str], ears: list[socket.socket]) -> Iterator[int]:
    """The sizes of what each connection is told of each change, one change after the other."""
    for key in keys:
        cache.delete(key)
        for sock in ears:
            yield len(sock.recv(65536))


# -- the table ------------------------------------------------------------------------------------

COLUMNS = (
    ("provider", "calls"),
    ("of all", "calls"),
    ("near", "hits"),
    ("Redis", "commands"),
    ("", "a call"),
    ("Redis", "MB"),
    ("Redis", "CPU ms"),
    ("p50", "ms"),
    ("p99", "ms"),
    ("stale", "answers"),
    ("oldest", "s"),
    ("connec-", "tions"),
    ("held up", "ms"),
)
HEAD = "\n".join(
    " " * 28 + "".join(f"{part:>9}" for part in line) for line in zip(*COLUMNS, strict=True)
)


def line(row: Row) -> str:
    told, total = row.told, len(row.told.answers)
    percents = quantiles(told.latencies, n=100)
    count, worst = stale(told)
    cells = (
        f"{row.provider_calls:,}",
        f"{row.provider_calls / total:.1%}",
        f"{told.near_hits / total:.1%}",
        f"{row.commands:,}",
        f"{row.commands / total:.2f}",
        f"{row.bytes / 1e6:.1f}",
        f"{row.cpu * 1000:,.0f}",
        f"{percents[49] * 1000:.2f}",
        f"{percents[98] * 1000:.2f}",
        f"{count:,}",
        f"{worst:.2f}" if count else "",
        f"{row.connections:,}",
        f"{told.lateness * 1000:,.0f}",
    )
    return f"{row.name:28}" + "".join(f"{cell:>9}" for cell in cells)


def trouble(told: Told) -> str:
    """What makes a row doubtful, or nothing."""
    if not told.errors and not told.failures:
        return ""
    return f"    doubtful: {told.errors} calls and {told.failures} operations failed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each row")
    parser.add_argument("--rate", type=float, default=10.0, help="calls a second and replica")
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--changes", type=float, default=0.01, help="of the keys in a second")
    parser.add_argument("--skew", type=float, default=1.0, help="of Zipf's law")
    parser.add_argument("--row", help="only the rows that contain this text")
    given = vars(parser.parse_args())
    wanted = given.pop("row") or ""
    load = Load(**given)
    print(
        f"{load.replicas} replicas in {load.processes} processes, {load.seconds:g} s each row: "
        f"{load.rate:g} calls/s and replica of {load.keys:,} keys (Zipf {load.skew:g}),\n"
        f"{load.changes * load.keys:g} invalidations/s, a provider that takes {CALL * 1000:g} ms\n"
    )
    print(HEAD, flush=True)
    for name in ROWS:
        if wanted in name:
            row = measure(name, load)
            print(line(row), flush=True)
            if told := trouble(row.told):
                print(told, flush=True)
    if not wanted:
        print(f"\n{unit_costs()}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
