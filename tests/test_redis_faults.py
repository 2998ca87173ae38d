"""Redis when something is wrong: nothing waits longer than it may, no answer is mixed up."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import Colour, timed
from proxy import Proxy
from pydantic import BaseModel
from redis_server import RedisServer, free_port

from instructor_cache import RedisCache, instructor_cache
from instructor_cache.events import Event
from instructor_cache.ports import is_bounded

TIMEOUT = 0.2
HIDES_TLS = redis.__version__ == "5.0.0"  # whose async errors end in "1."
SLACK = 0.5  # seconds that a busy machine may add


class User(BaseModel):
    name: str


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for this module, behind the proxies."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


class Face:
    """A backend in one colour, for tests that are async in any case."""

    def __init__(self, cache: RedisCache, colour: Colour) -> None:
        self.cache, self._prefix = cache, "a" if colour.is_async else ""

    async def do(self, operation: str, *args: Any) -> Any:
        outcome = getattr(self.cache, self._prefix + operation)(*args)
        return await outcome if isinstance(outcome, Awaitable) else outcome

    async def works(self, operation: str, *args: Any) -> Any:
        """The outcome of an operation, tried a few times: a busy machine may need longer."""
        for _ in range(4):
            with suppress(redis.TimeoutError):
                return await self.do(operation, *args)
        return await self.do(operation, *args)

    async def fails(self, operation: str, *args: Any) -> tuple[Exception, float]:
        """The error of an operation that has to fail, and the seconds that it took."""
        start = time.monotonic()
        try:
            outcome = await self.do(operation, *args)
        except Exception as error:
            return error, time.monotonic() - start
        raise AssertionError(f"{operation} gave {outcome!r}")


OPERATIONS: list[tuple[Any, ...]] = [
    ("get", "k"),
    ("set", "k", b"v", None),
    ("delete", "k"),
    ("swap", "k", b"v", b"w", None),
    ("clear", "k"),
]


# -- a network that misbehaves -------------------------------------------------------------------

BROKEN: list[tuple[str, type[Exception]]] = [
    ("refuse", redis.ConnectionError),
    ("blackhole", redis.TimeoutError),
    ("drip", redis.TimeoutError),
    ("reset", redis.ConnectionError),
    ("half_close", redis.ConnectionError),
    ("garbage", redis.exceptions.InvalidResponse),
    ("cut", redis.ConnectionError),
]


@timed
@pytest.mark.parametrize(("mode", "kind"), BROKEN, ids=[mode for mode, _ in BROKEN])
async def test_every_operation_ends_in_time(
    colour: Colour, proxy: Proxy, mode: str, kind: type[Exception]
) -> None:
    """Whatever the network does, on open connections and new ones, each operation raises a named
    error within the timeout, and works again right after."""
    cache = Face(RedisCache(proxy.url, timeout=TIMEOUT), colour)
    await cache.works("set", "k", b"before", None)
    proxy.delay = 0.06  # drips for longer than the timeout
    proxy.mode = mode
    for operation in OPERATIONS:
        error, seconds = await cache.fails(*operation)
        assert isinstance(error, kind), (operation, error)
        assert seconds < TIMEOUT + SLACK, operation
    proxy.mode = "pass"
    await cache.works("set", "k", b"after", None)
    assert await cache.works("get", "k") == b"after"
    await cache.cache.aclose()


def test_it_promises_what_it_keeps(server: RedisServer) -> None:
    """Over a URL, or a ready async client, it is bounded by its timeout, which the URL may set;
    over a ready sync client, whose settings are another's, it promises nothing."""
    assert is_bounded(RedisCache(server.url))
    assert RedisCache(server.url).timeout == 0.5
    assert RedisCache(f"{server.url}?socket_timeout=2", timeout=1).timeout == 2
    assert is_bounded(RedisCache(redis.asyncio.Redis.from_url(server.url)))
    assert not is_bounded(RedisCache(redis.Redis.from_url(server.url)))


async def test_a_slow_server_is_waited_for(colour: Colour, proxy: Proxy) -> None:
    """Replies that take their time, but less than the timeout, are good replies."""
    cache = Face(RedisCache(proxy.url, timeout=1), colour)
    await cache.do("set", "k", b"v", None)
    proxy.mode = "slow"
    assert await cache.do("get", "k") == b"v"
    await cache.cache.aclose()


async def test_a_big_value_goes_through_in_parts(colour: Colour, proxy: Proxy) -> None:
    """Eight megabytes, which no socket takes at once, arrive byte for byte."""
    cache = Face(RedisCache(proxy.url, timeout=10), colour)
    value = bytes(range(256)) * 32_768
    await cache.do("set", "big", value, None)
    assert await cache.do("get", "big") == value
    await cache.do("delete", "big")
    await cache.cache.aclose()


@timed
async def test_a_peer_that_does_not_read_is_given_up(colour: Colour, server: RedisServer) -> None:
    """A value that the peer never takes off the wire costs the timeout, and leaves no socket."""
    before = open_files()
    with Proxy(server.port) as proxy:
        cache = Face(RedisCache(proxy.url, timeout=TIMEOUT), colour)
        await cache.works("get", "k")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            error, seconds = await cache.fails("set", "big", b"x" * (64 << 20), None)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert isinstance(error, redis.TimeoutError)
        assert seconds < TIMEOUT + 2 * SLACK
        await cache.cache.aclose()
    assert await settled(open_files, before)


@timed
async def test_a_paused_server_costs_the_timeout(colour: Colour) -> None:
    """A server stopped by SIGSTOP costs the timeout and no more, and is used again afterwards."""
    with RedisServer() as server:
        cache = Face(RedisCache(server.url, timeout=TIMEOUT), colour)
        await cache.works("set", "k", b"v", None)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        error, seconds = await cache.fails("get", "k")
        server.process.send_signal(signal.SIGCONT)
        assert isinstance(error, redis.TimeoutError)
        assert TIMEOUT / 2 < seconds < TIMEOUT + SLACK
        assert await cache.works("get", "k") == b"v"
        await cache.cache.aclose()


# -- connecting ----------------------------------------------------------------------------------


@timed
async def test_a_name_that_is_not_found_in_time(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that doesn't answer costs the timeout, and holds up neither loop nor exit."""
    forever = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: forever.wait(10) and [])
    cache = Face(RedisCache("redis://far.example:6379", timeout=TIMEOUT), colour)
    error, seconds = await cache.fails("get", "k")
    assert isinstance(error, redis.TimeoutError)
    assert seconds < TIMEOUT + SLACK
    forever.set()
    assert await settled(threads_of_ours, 0)
    await cache.cache.aclose()


async def test_a_connection_that_comes_late_is_closed(
    colour: Colour, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is made after its command has failed is closed, not left to the garbage
    collector, which would warn."""
    look_up, before = socket.getaddrinfo, open_files()

    def slowly(*args: Any, **options: Any) -> Any:
        time.sleep(2 * TIMEOUT)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    cache = Face(RedisCache(server.url, timeout=TIMEOUT), colour)
    error, _ = await cache.fails("get", "k")
    assert isinstance(error, redis.TimeoutError)
    assert await settled(threads_of_ours, 0)
    assert await settled(open_files, before)
    await cache.cache.aclose()


async def test_an_unknown_name_is_named(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not exist is a ConnectionError that says so."""

    def unknown(*_: Any, **__: Any) -> Any:  # a name server may be slow, or say that all names are
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    cache = Face(RedisCache("redis://no-such-host.invalid:6379", timeout=5), colour)
    error, _ = await cache.fails("get", "k")
    assert isinstance(error, redis.ConnectionError)
    assert "no-such-host.invalid" in str(error)


@timed
async def test_several_addresses_share_one_timeout(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three addresses of one name that don't answer cost one timeout together, not three."""
    with silent_port() as port:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (1, 2, 3)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        cache = Face(RedisCache(f"redis://three.example:{port}", timeout=TIMEOUT), colour)
        error, seconds = await cache.fails("get", "k")
    assert isinstance(error, redis.TimeoutError)
    assert seconds < TIMEOUT + SLACK


async def test_the_next_address_is_tried(
    colour: Colour, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with an address that refuses and one that works, works."""
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", server.port)) for n in (9, 1)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    cache = Face(RedisCache(f"redis://two.example:{server.port}", timeout=5), colour)
    await cache.do("set", "k", b"v", None)
    assert await cache.do("get", "k") == b"v"
    await cache.cache.aclose()


@timed
async def test_a_handshake_that_drips_is_given_up(colour: Colour) -> None:
    """Password, database and name are part of the one limit, however slowly they are answered."""
    with RedisServer("--requirepass", "secret") as server, Proxy(server.port, 0.02) as proxy:
        url = f"redis://:secret@127.0.0.1:{proxy.port}/3?client_name=test"
        cache = Face(RedisCache(url, timeout=TIMEOUT), colour)
        proxy.mode = "drip"
        error, seconds = await cache.fails("get", "k")
        assert isinstance(error, redis.TimeoutError)
        assert seconds < TIMEOUT + SLACK
        proxy.mode = "pass"
        assert await cache.works("get", "k") is None
        await cache.cache.aclose()


class TlsServer:
    """TLS in front of a plain server, with a certificate that its own authority has signed."""

    def __init__(self, folder: Path, target: int) -> None:
        self.authority, key = folder / "cert.pem", folder / "key.pem"
        command = (
            f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key}"
        )
        alternative = ["-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(
            [*command.split(), "-out", str(self.authority), *alternative],
            check=True,
            capture_output=True,
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.authority, key)
        self.port = free_port()
        self._start = lambda: asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self._target = target

    async def _serve(self, reader: Any, writer: Any) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def pump(source: Any, sink: Any) -> None:
            with suppress(OSError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def run(self, test: Callable[[], Any]) -> Any:
        """Give the outcome of *test*, run in a thread while the server serves."""

        async def main() -> Any:
            async with await self._start():
                return await asyncio.to_thread(test)

        return asyncio.run(main())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_serves_both_colours_and_tells_what_is_wrong(
    tmp_path: Path, server: RedisServer
) -> None:
    """rediss:// works with the right authority, and without it the error names the certificate."""
    tls = TlsServer(tmp_path, server.port)
    url = f"rediss://localhost:{tls.port}"

    def use(cache: RedisCache) -> tuple[Any, Any]:
        async def both() -> Any:
            await cache.aset("tls", b"t" * 200_000, None)
            return await cache.aget("tls")

        return asyncio.run(both()), [cache.get("tls") for _ in range(3)][-1]

    def error_of(colour: str) -> str:
        stranger = RedisCache(url, timeout=5)
        with pytest.raises(redis.ConnectionError) as caught:
            stranger.get("k") if colour == "sync" else asyncio.run(stranger.aget("k"))
        return str(caught.value)

    def test() -> Any:
        cache = RedisCache(f"{url}?ssl_ca_certs={tls.authority}", timeout=5)
        found = use(cache)
        cache.delete("tls")
        cache.close()
        return found, [error_of("sync"), error_of("async")]

    found, errors = tls.run(test)
    assert found == (b"t" * 200_000, b"t" * 200_000)
    assert all("CERTIFICATE_VERIFY_FAILED" in error for error in errors) or HIDES_TLS, errors


@timed
async def test_tls_that_is_not_answered(colour: Colour, proxy: Proxy) -> None:
    """A TLS handshake with a peer that says nothing ends in time."""
    proxy.mode = "blackhole"
    url = proxy.url.replace("redis://", "rediss://")
    cache = Face(RedisCache(url, timeout=2 * TIMEOUT), colour)
    error, seconds = await cache.fails("get", "k")
    assert isinstance(error, redis.TimeoutError)
    assert seconds < 2 * TIMEOUT + SLACK
    await cache.cache.aclose()


async def test_tls_with_a_peer_that_speaks_none(colour: Colour) -> None:
    """A TLS handshake that is answered in plain text is an error that names TLS."""
    with Peer(lambda sock: sock.sendall(b"-ERR speak plainly\r\n")) as peer:
        url = peer.url.replace("redis://", "rediss://")
        cache = Face(RedisCache(url, timeout=5), colour)
        error, _ = await cache.fails("get", "k")
        assert isinstance(error, redis.ConnectionError)
        assert "SSL" in str(error) or HIDES_TLS
        await cache.cache.aclose()


# -- a server that says no -----------------------------------------------------------------------


@timed
async def test_a_refusal_keeps_its_class(colour: Colour, proxy: Proxy) -> None:
    """What the server refuses raises redis-py's own class for it, at once, so that events name it;
    the server is asked once."""
    cases: list[tuple[bytes, type[Exception]]] = [
        (b"-OOM command not allowed", redis.exceptions.OutOfMemoryError),
        (b"-READONLY You can't write against a read only replica.", redis.ReadOnlyError),
        (b"-NOAUTH Authentication required.", redis.AuthenticationError),
        (b"-WRONGPASS invalid username-password pair", redis.AuthenticationError),
        (b"-NOPERM this user has no permissions", redis.exceptions.NoPermissionError),
        (b"-LOADING Redis is loading the dataset in memory", redis.BusyLoadingError),
        (b"-MOVED 866 127.0.0.1:7001", redis.exceptions.MovedError),
        (b"-CLUSTERDOWN Hash slot not served", redis.exceptions.ClusterDownError),
        (b"-BUSY Redis is busy running a script.", redis.ResponseError),
        (b"-ERR max number of clients reached", redis.ConnectionError),
    ]
    cache = Face(RedisCache(proxy.url, timeout=5), colour)
    for words, kind in cases:
        proxy.mode = "pass"
        await cache.do("get", "k")
        accepted = proxy.accepted
        proxy.words, proxy.mode = words + b"\r\n", "say"
        error, seconds = await cache.fails("get", "k")
        assert isinstance(error, kind) or is_named_in(error, words), (words, error)
        assert seconds < SLACK, words
        assert proxy.accepted == accepted or kind is redis.ConnectionError, words
    proxy.mode = "pass"
    assert await cache.do("get", "none") is None
    await cache.cache.aclose()


def is_named_in(error: Exception, words: bytes) -> bool:
    """Whether it is a plain ResponseError that says it all, as in redis-py 5 outside clusters."""
    return type(error) is redis.ResponseError and str(error) == words[1:].decode()


UNWILLING: dict[str, tuple[str, ...]] = {
    "OutOfMemoryError": ("--maxmemory", "1", "--maxmemory-policy", "noeviction"),
    "ReadOnlyError": ("--replicaof", "127.0.0.1", "1"),
    "AuthenticationError": ("--requirepass", "secret"),
    "ClusterDownError": ("--cluster-enabled", "yes", "--cluster-config-file", "{folder}/nodes"),
    "ConnectionError": ("--maxclients", "1"),
}


@pytest.fixture(scope="module", params=list(UNWILLING))
def unwilling(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, RedisServer]]:
    """A real server that refuses what a cache wants of it, and the name of its error."""
    folder = str(tmp_path_factory.mktemp("unwilling"))
    options = [option.replace("{folder}", folder) for option in UNWILLING[request.param]]
    port = free_port()
    while port > 55_000:  # a cluster's bus is at port + 10,000
        port = free_port()
    with RedisServer(*options, port=port) as server:
        yield request.param, server


def extractor(colour: Colour, cache: Any, **options: Any) -> tuple[Any, list[str], list[Event]]:
    """A cached function of *colour*, the arguments that it was called with, and its events."""
    calls: list[str] = []
    events: list[Event] = []

    def extract(text: str) -> User:
        calls.append(text)
        return User(name=text)

    decorate = instructor_cache(cache, observer=events.append, **options)
    return decorate(colour.function(extract)), calls, events


def held_place(port: int) -> socket.socket:
    """A connection that the server has let in; where there is place for one, nobody else is."""
    while True:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"PING\r\n")
        if not sock.recv(100).startswith(b"-ERR max"):
            return sock
        sock.close()


def failures(events: list[Event]) -> set[str]:
    """The names of the errors that events told of; CLUSTERDOWN has no class in redis-py 5."""
    errors = [event.error for event in events if event.kind == "failure"]
    is_down = any(str(error).startswith("CLUSTERDOWN") for error in errors)
    return {type(error).__name__ for error in errors} | ({"ClusterDownError"} if is_down else set())


@timed
async def test_a_server_that_refuses_costs_nothing_but_the_saving(
    colour: Colour, unwilling: tuple[str, RedisServer]
) -> None:
    """Out of memory, a replica, no password, a cluster without slots, too many clients: the
    function answers, at once, and an event names the refusal."""
    name, server = unwilling
    cache = RedisCache(server.url, timeout=5)
    extract, calls, events = extractor(colour, cache)
    with held_place(server.port):  # given back if this fails: the next try would wait for ever
        start = time.monotonic()
        for _ in range(2):
            assert await colour.call(extract, "ada") == User(name="ada")
        assert time.monotonic() - start < 2 * SLACK
        assert calls == ["ada", "ada"]
        assert name in failures(events)
    await cache.aclose()


async def test_a_server_busy_with_a_script_is_survived(colour: Colour) -> None:
    """A script that never ends makes the server say BUSY: the function answers, an event tells."""
    with RedisServer("--lua-time-limit", "50") as server:
        endless = socket.create_connection(("127.0.0.1", server.port))
        endless.sendall(b'EVAL "while true do end" 0\r\n')
        time.sleep(0.2)
        cache = RedisCache(server.url, timeout=1)
        extract, calls, events = extractor(colour, cache)
        assert await colour.call(extract, "ada") == User(name="ada")
        assert any("BUSY" in str(e.error) for e in events if e.kind == "failure"), events
        endless.close()
        await cache.aclose()
    assert calls == ["ada"]


# -- functions over a network that misbehaves ----------------------------------------------------


@timed
@pytest.mark.parametrize("mode", [mode for mode, _ in BROKEN])
async def test_a_function_survives_every_fault(colour: Colour, proxy: Proxy, mode: str) -> None:
    """Whatever the network does, the answer is right and comes within a few timeouts, an event
    tells of it, and when it is over what was stored before is soon a hit again."""
    cache = RedisCache(proxy.url, timeout=TIMEOUT)
    extract, _, events = extractor(colour, cache, prefix=f"{mode}-{colour}")
    assert await colour.call(extract, "before") == User(name="before")
    proxy.delay, proxy.mode = 0.06, mode
    for text in ("before", "new"):
        start = time.monotonic()
        assert await colour.call(extract, text) == User(name=text)
        assert time.monotonic() - start < 4 * TIMEOUT + SLACK
    kinds = {"ConnectionError", "TimeoutError", "Unfinished", "InvalidResponse"}
    assert failures(events) <= kinds, events
    assert failures(events), events
    proxy.mode = "pass"
    seen, start = len(events), time.monotonic()
    while "hit" not in {event.kind for event in events[seen:]}:
        assert await colour.call(extract, "before") == User(name="before")
        assert time.monotonic() - start < 5
    await cache.aclose()


async def test_replies_out_of_step_are_never_another_calls_answer(
    colour: Colour, proxy: Proxy
) -> None:
    """On a connection where each reply belongs to the request before it, every call still gets
    its own answer, an event says "corrupt" or "failure", and all is well when it is in step."""
    cache = RedisCache(proxy.url, timeout=TIMEOUT)
    extract, _, events = extractor(colour, cache, prefix=f"stale-{colour}")
    names = [f"n{n}" for n in range(10)]
    for name in names:
        await colour.call(extract, name)
    proxy.mode = "stale"
    for _ in range(3):
        for name in names:
            assert await colour.call(extract, name) == User(name=name)
    assert {"corrupt", "failure"} & {event.kind for event in events}
    proxy.mode, start = "pass", time.monotonic()
    while [event.kind for event in events[-10:]] != ["hit"] * 10:
        for name in names:
            assert await colour.call(extract, name) == User(name=name)
        assert time.monotonic() - start < 5
    await cache.aclose()


async def test_a_connection_out_of_step_is_noticed(colour: Colour, proxy: Proxy) -> None:
    """A reply that can't belong to its command is an error, after which a new connection is
    used: even a peer that stays out of step on the old one does no more harm."""
    cache = Face(RedisCache(proxy.url, timeout=1), colour)
    await cache.do("set", "k", b"v", None)
    await cache.do("get", "k")
    proxy.mode = "stale"
    error, _ = await cache.fails("swap", "k", b"x", b"y", None)
    assert isinstance(error, redis.exceptions.InvalidResponse)
    accepted, proxy.mode = proxy.accepted, "pass"
    assert await cache.do("get", "k") == b"v"
    assert proxy.accepted == accepted + 1
    await cache.cache.aclose()


async def test_bytes_that_nobody_asked_for_end_a_connection(colour: Colour) -> None:
    """Bytes that arrive on an idle connection are never read as the next reply."""
    for late in (b"$5\r\nother\r\n", b""):
        with Peer(functools.partial(answers_and_goes_on, late)) as peer:
            cache = Face(RedisCache(peer.url, timeout=1), colour)
            for _ in range(5):
                assert await cache.do("get", "k") == b"right"
                await asyncio.sleep(0.02)
            await cache.cache.aclose()


def answers_and_goes_on(late: bytes, sock: socket.socket) -> None:
    """Answer every GET, then send *late* a little later, or close if it is empty."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(4096):
        if b"GET" not in data:
            sock.sendall(b"+OK\r\n" * data.count(b"CLIENT"))
            continue
        sock.sendall(b"$5\r\nright\r\n")
        time.sleep(0.005)
        if not late:
            return
        sock.sendall(late)


# -- helpers -------------------------------------------------------------------------------------


@contextmanager
def silent_port() -> Iterator[int]:
    """A port at which the kernel no longer answers, because nobody accepts what came before."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("0.0.0.0", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(8):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        yield port


class Peer:
    """A peer on a port of its own, who does *serve* with every connection, then closes it."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._attend, args=(sock,), daemon=True).start()

    def _attend(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            self._serve(sock)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads_of_ours() -> int:
    return sum(thread.name == "instructor_cache" for thread in threading.enumerate())


async def settled(count: Callable[[], int], wanted: int) -> bool:
    """Whether *count* comes down to *wanted* within five seconds."""
    deadline = time.monotonic() + 5
    while count() > wanted and time.monotonic() < deadline:
        gc.collect()
        await asyncio.sleep(0.01)
    return count() <= wanted
