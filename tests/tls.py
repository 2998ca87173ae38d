"""Certificates for the tests, and a Redis server behind TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

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
    """Takes TLS at *port* and passes on what is in it to *target*, both on this machine."""

    def __init__(self, context: ssl.SSLContext, port: int, target: int) -> None:
        self._context, self._port, self._target = context, port, target
        self._sockets: list[Any] = []

    def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._sockets.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as client:
            self._sockets.append(client)
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets.append(server)
            threading.Thread(target=_copy, args=(server, client), daemon=True).start()
            _copy(client, server)


def _copy(source: Any, target: Any) -> None:
    with suppress(OSError, ValueError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
