"""A TCP proxy in front of a real server, which misbehaves on demand, for tests of either colour."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType

from redis_server import free_port
from typing_extensions import Self


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # which wakes up whoever reads from it
    sock.close()


def _replies(data: bytes) -> Iterator[bytes]:
    """The single replies in *data*, none of which is a list."""
    while data:
        line = data.partition(b"\r\n")[0]
        value = int(line[1:]) + 2 if line[:1] == b"$" and line != b"$-1" else 0
        end = len(line) + 2 + value
        yield data[:end]
        data = data[end:]


MODES = (
    "pass",
    "refuse",  # nobody listens, open connections are closed
    "blackhole",  # accepts, and never answers
    "slow",  # each reply comes after `delay` seconds
    "drip",  # each reply comes byte by byte, `delay` seconds apart
    "reset",  # a request is answered by a TCP reset
    "half_close",  # a request is answered by the end of the stream, the other half stays open
    "garbage",  # bytes that are no Redis before each reply
    "cut",  # the connection ends in the middle of a reply
    "stale",  # each request gets the reply of the request before it
    "say",  # each reply is `words` instead
)


class Proxy:
    """Stands before *port* of this machine; use as a context manager, and set `mode` at any time.

    A mode counts for connections that are open as well as for new ones.
    """

    def __init__(self, port: int, delay: float = 0.05) -> None:
        self.port, self.delay = free_port(), delay
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.words = b""
        self.accepted = 0
        self._target, self._mode = port, "pass"
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        assert mode in MODES
        self._mode = mode
        if mode == "refuse":
            self._stop()
        elif self._listener is None:
            self._start()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._mode = "refuse"
        self._stop()

    # -- connections -----------------------------------------------------------------------------

    def _start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._run(self._accept, self._listener)

    def _stop(self) -> None:
        listener, self._listener = self._listener, None
        for sock in [listener, *self._sockets]:
            if sock is not None:
                _end(sock)
        self._sockets.clear()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def _run(self, work: Callable[..., None], *sockets: socket.socket) -> None:
        def until_closed() -> None:
            with suppress(OSError):
                work(*sockets)
            for sock in sockets:
                _end(sock)

        thread = threading.Thread(target=until_closed, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets.update((client, server))
            self._run(self._pass_requests, client, server)
            self._run(self._pass_replies, client, server)

    # -- behaviour -------------------------------------------------------------------------------

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        while request := client.recv(1 << 16):
            if self._mode == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                return
            if self._mode == "half_close":
                client.shutdown(socket.SHUT_WR)
            elif self._mode != "blackhole":
                server.sendall(request)
        server.shutdown(socket.SHUT_RDWR)

    def _pass_replies(self, client: socket.socket, server: socket.socket) -> None:
        before = b"+OK\r\n"
        while reply := server.recv(1 << 16):
            mode = self._mode  # one for the whole of a reply
            for part in self._parts(mode, reply, before):
                if mode in ("drip", "slow"):
                    time.sleep(self.delay)
                client.sendall(part)
            if mode == "cut":
                break
            before = list(_replies(reply))[-1] if mode == "stale" else reply
        client.shutdown(socket.SHUT_RDWR)

    def _parts(self, mode: str, reply: bytes, before: bytes) -> Iterable[bytes]:
        match mode:
            case "blackhole":
                return []
            case "drip":
                return [reply[n : n + 1] for n in range(len(reply))]
            case "garbage":
                return [b"HTTP/1.1 400 Bad Request\r\n\r\n" + reply]
            case "cut":
                return [reply[: len(reply) // 2]]
            case "stale":
                return [before, *list(_replies(reply))[:-1]]
            case "say":
                return [self.words]
            case _:
                return [reply]
