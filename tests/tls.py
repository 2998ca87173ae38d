"""Certificates for the tests, and a Redis server behind TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType

import trustme
from redis_server import RedisServer, free_port
from typing_extensions import Self


class Authority:
    """A certificate authority that nobody knows; `path` is its certificate, for clients."""

    def __init__(self, folder: Path) -> None:
        self._ca, self._folder = trustme.CA(), folder
        self.path = folder / f"{id(self)}.ca.pem"
        self._ca.cert_pem.write_to_path(str(self.path))

    def issue(self, host: str, *, is_expired: bool = False) -> tuple[Path, Path]:
        """The files of a certificate for *host* and of its key."""
        now = datetime.now(timezone.utc)
        end = now + timedelta(days=-1 if is_expired else 1)
        issued = self._ca.issue_cert(host, not_before=now - timedelta(days=2), not_after=end)
        name = f"{id(self)}.{host}.{is_expired}"
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


class TlsServer:
    """A real server that speaks TLS on `port`: its own, or if it has none, a terminator's."""

    def __init__(self, certificate: Path, key: Path, *options: str) -> None:
        self.port = free_port()
        files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
        own = ("--tls-port", str(self.port), *files, "--tls-auth-clients", "no")
        self._with_tls, self._without = RedisServer(*options, *own), RedisServer(*options)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._terminator = Terminator(context, self.port, self._without.port)
        self.is_native = False

    def __enter__(self) -> Self:
        try:
            self._with_tls.start()
            self.is_native = True
        except RuntimeError:  # it was built without TLS
            self._without.start()
            self._terminator.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._terminator.stop()
        self._with_tls.stop()
        self._without.stop()


class Terminator:
    """Takes TLS at *port* and passes on what is in it to *target*, both on this machine.

    By one thread: two that read and write one TLS connection at a time crash some Pythons.
    """

    def __init__(self, context: ssl.SSLContext, port: int, target: int) -> None:
        self._context, self._port, self._target = context, port, target
        self._is_ready, self._writers = threading.Event(), set[asyncio.StreamWriter]()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._is_ready.wait(20)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(20)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        context = self._context
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=context)
        self._is_ready.set()
        await self._end.wait()
        server.close()
        for writer in self._writers:
            _abort(writer)
        await asyncio.sleep(0.01)  # in which the sockets are closed

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
    finally:
        _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(AttributeError):  # of TLS in Python 3.11.2, where it has been closed twice
        writer.transport.abort()
