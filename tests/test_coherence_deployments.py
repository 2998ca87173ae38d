"""Coherent near tiers over clusters, sentinels and TLS: real ones, whose servers move and die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import Colour
from other import OtherProcess
from redis_server import Cluster, Sentinels, until
from test_coherence import Nearby, is_live, none_left  # noqa: F401
from tls import Authority, TlsServer

from instructor_cache import RedisCache
from instructor_cache.backends.redis._slots import slot_of

pytestmark = pytest.mark.slow

TEXTS = [f"{n}" for n in range(30)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes, which stay as they are but for slots that move."""
    with Cluster(3) as cluster:
        yield cluster


def held(nearby: Nearby) -> int:
    """How many of the answers are in memory."""
    keys = [nearby.function.cache_key(text) for text in TEXTS]
    return sum(nearby.memory.get(key) is not None for key in keys)


def all_dropped(nearby: Nearby) -> bool:
    return held(nearby) == 0


async def change_all(nearby: Nearby, other: OtherProcess, name: str) -> None:
    """Have all keys in memory, and each changed by another process: all are dropped."""
    await nearby.live()
    for text in TEXTS:
        other.do("set", nearby.prefix, text, f"old {name}")
    until(lambda: all_dropped(nearby))
    for text in TEXTS:
        assert await nearby.call(text) == f"old {name}"
    assert held(nearby) == len(TEXTS)
    for text in TEXTS:
        other.do("set", nearby.prefix, text, name)
    until(lambda: all_dropped(nearby))
    for text in TEXTS:
        assert await nearby.call(text) == name


async def test_every_node_of_a_cluster_tells(colour: Colour, cluster: Cluster, prefix: str) -> None:
    """Changes of keys on all nodes are heard, also of a slot that moves from one to another."""
    nearby = Nearby(colour, cluster.url, prefix)
    with OtherProcess(cluster.url) as other:
        await change_all(nearby, other, "first")
        slot = slot_of(("GET", nearby.function.cache_key("7")))
        source = cluster.owner(slot)
        target = next(each for each in cluster.masters if each is not source)
        for _ in cluster.move(slot, source, target):
            await nearby.call("7")
        await change_all(nearby, other, "second")
    await nearby.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_ready_clusters_client_is_listened_beside(
    cluster: Cluster, prefix: str, kind: str
) -> None:
    """A ready client of a cluster, of either colour, says which nodes to listen to."""
    library: Any = redis.asyncio if kind == "async" else redis
    port = cluster.masters[0].port
    client: Any = library.RedisCluster(host="127.0.0.1", port=port)
    nearby = Nearby(Colour(kind), "", prefix, far=RedisCache(client))
    with OtherProcess(cluster.url) as other:
        await change_all(nearby, other, "theirs")
    nearby.cache.close()
    closing = getattr(client, "aclose", client.close)()  # redis-py 5.0.0 has only close
    if kind == "async":
        await closing


async def test_a_replica_that_takes_over_tells(prefix: str) -> None:
    """When a node is killed the memory is emptied; when its replica has taken its place, and not
    before, all changes are told again."""
    with Cluster(3, 1) as cluster:
        nearby = Nearby(Colour("sync"), cluster.url, prefix)
        with OtherProcess(cluster.url) as other:
            await change_all(nearby, other, "first")
            cluster.masters[0].stop()
            until(lambda: all_dropped(nearby))
            assert not is_live(nearby.cache, prefix)
            until(lambda: is_live(nearby.cache, prefix))
            await change_all(nearby, other, "second")
        await nearby.close()


async def test_the_master_that_a_sentinel_chooses_tells(colour: Colour, prefix: str) -> None:
    """When the master is killed the memory is emptied; the next master tells of changes."""
    with Sentinels() as sentinels:
        nearby = Nearby(colour, sentinels.url, prefix)
        with OtherProcess(sentinels.url) as other:
            await change_all(nearby, other, "first")
            sentinels.master.stop()
            until(lambda: all_dropped(nearby))
            until(lambda: is_live(nearby.cache, prefix))
            await change_all(nearby, other, "second")
        await nearby.close()


async def test_a_server_tells_over_tls(colour: Colour, tmp_path: Path, prefix: str) -> None:
    """Changes are heard over an encrypted connection with verified certificates."""
    authority = Authority(tmp_path)
    with TlsServer(*authority.issue("localhost")) as server:
        url = f"rediss://localhost:{server.port}/0?ssl_ca_certs={authority.path}&socket_timeout=2"
        nearby = Nearby(colour, url, prefix)
        with OtherProcess(url) as other:
            await change_all(nearby, other, "theirs")
        await nearby.close()
