"""TLS: certificates are verified, as is the host's name; what is refused never breaks a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from conftest import Colour, timed
from pydantic import BaseModel
from redis_server import RedisServer
from tls import Authority, TlsServer

from instructor_cache import Event, RedisCache, instructor_cache
from instructor_cache.testing import BackendContract


class Answer(BaseModel):
    question: str


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[TlsServer]:
    """A server with a good certificate for localhost."""
    with TlsServer(*authority.issue("localhost")) as server:
        yield server


@pytest.mark.slow
class TestTls(BackendContract):
    shared = True
    url: str

    @pytest.fixture(autouse=True)
    def _url(self, server: TlsServer, authority: Authority) -> None:
        self.url = f"rediss://localhost:{server.port}/0?ssl_ca_certs={authority.path}"

    def make_backend(self) -> RedisCache:
        return RedisCache(self.url, timeout=2)


def refused(cache: RedisCache, is_async: bool) -> str:
    """The error of a read."""
    start = time.monotonic()
    with pytest.raises(redis.RedisError) as caught:
        asyncio.run(cache.aget("k")) if is_async else cache.get("k")
    assert time.monotonic() - start < cache.timeout + 0.25
    return _told(caught.value)


def _told(error: BaseException | None) -> str:
    """An error's text, and that of what led to it: redis-py 5.0 leaves most of it out."""
    texts: list[str] = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(texts)


both_colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@timed
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("untrusted", "unable to get local issuer|self-signed|self signed"),
        ("other host", "doesn't match|mismatch"),
        ("expired", "expired"),
    ],
)
def test_a_wrong_certificate_is_refused(
    wrong: str, why: str, authority: Authority, tmp_path: Path
) -> None:
    """A certificate of an unknown authority, for another host or of yesterday is refused in both
    colours, and the error says which."""
    certificate = {
        "untrusted": lambda: Authority(tmp_path).issue("localhost"),
        "other host": lambda: authority.issue("example.org"),
        "expired": lambda: authority.issue("localhost", is_expired=True),
    }[wrong]()
    with TlsServer(*certificate) as server:
        for is_async, scheme in ((False, "rediss"), (True, "valkeys")):
            url = f"{scheme}://localhost:{server.port}/0?ssl_ca_certs={authority.path}"
            error = refused(RedisCache(url, timeout=2), is_async)
            assert _says(error, why), error


def _says(error: str, why: str) -> bool:
    return any(part in error for part in why.split("|"))


@timed
@both_colours
def test_an_authority_must_be_named_or_known(server: TlsServer, is_async: bool) -> None:
    """Without ?ssl_ca_certs= the machine's authorities count, which don't know this one."""
    refused(RedisCache(f"rediss://localhost:{server.port}", timeout=2), is_async)


@both_colours
def test_verification_can_be_given_up(server: TlsServer, is_async: bool) -> None:
    """?ssl_cert_reqs=none and ?ssl_check_hostname=false do as in redis-py."""
    cache = RedisCache(f"rediss://127.0.0.1:{server.port}?ssl_cert_reqs=none", timeout=2)
    assert (asyncio.run(cache.aget("none")) if is_async else cache.get("none")) is None
    cache.close()


@timed
@both_colours
def test_the_name_of_the_host_counts(
    server: TlsServer, authority: Authority, is_async: bool
) -> None:
    """A good certificate is refused under the server's address, unless names don't matter."""
    url = f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={authority.path}"
    assert _says(refused(RedisCache(url, timeout=2), is_async), "doesn't match|mismatch")
    cache = RedisCache(f"{url}&ssl_check_hostname=false", timeout=2)
    assert (asyncio.run(cache.aget("none")) if is_async else cache.get("none")) is None
    cache.close()


async def test_a_refused_server_breaks_no_call(
    server: TlsServer, tmp_path: Path, prefix: str, colour: Colour
) -> None:
    """Behind a certificate that is not trusted the answers come from the function, and an event
    says why."""
    events: list[Event] = []
    url = f"rediss://localhost:{server.port}?ssl_ca_certs={Authority(tmp_path).path}"

    @instructor_cache(RedisCache(url, timeout=2), prefix=prefix, observer=events.append)
    @colour.function
    def extract(text: str) -> Answer:
        return Answer(question=text)

    for n in range(3):
        assert await colour.call(extract, f"{n}") == Answer(question=f"{n}")
    failures = [event for event in events if event.kind == "failure"]
    assert failures and "certificate verify failed" in _told(failures[0].error)


@timed
@both_colours
def test_a_server_without_tls_ends_in_time(is_async: bool) -> None:
    """A rediss:// URL of a server that speaks plain Redis is an error within the timeout."""
    with RedisServer() as plain:
        refused(RedisCache(f"rediss://127.0.0.1:{plain.port}", timeout=0.3), is_async)
