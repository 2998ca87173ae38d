"""Whole clients of instructor's, cached: the real instructor and openai, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import aiohttp
import instructor
import openai
import pytest
from openai.types.chat import ChatCompletion
from openai_server import OpenAIServer
from pydantic import BaseModel, Field, RootModel, create_model
from typing_extensions import TypedDict

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from methods import CALLS, MODES, User, asked, client_of, fits, outcome, thrice

from instructor_cache import (
    CacheMiss,
    DiskCache,
    Entry,
    Event,
    MemoryCache,
    Tier,
    TieredCache,
    bypass,
    cache_client,
    offline,
    refresh,
    source_version,
)
from instructor_cache.codecs._compare import difference
from instructor_cache.errors import UnkeyableArgumentWarning, UnstorableResultWarning
from instructor_cache.testing import Cassette, FaultyBackend

TOOLS = instructor.Mode.TOOLS
Base: Any = type(openai.DefaultHttpxClient(verify=False)._transport)
# The other modes differ in what is sent, which the quick tests leave to the slow ones.
THOROUGH = [
    mode
    if mode.name in ("TOOLS", "RESPONSES_TOOLS")
    else pytest.param(mode, marks=pytest.mark.slow)
    for mode in MODES
]


IS_OLD = "instructor.v2" not in sys.modules
new_only = pytest.mark.skipif(IS_OLD, reason="older versions of instructor do it in another way")


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    running.reset()
    return running


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def plain(server: OpenAIServer, mode: Any = TOOLS, **options: Any) -> Any:
    """A client of instructor's that nothing caches."""
    return client_of(server, mode, **{"is_async": False} | options)


def ask(client: Any, **options: Any) -> Any:
    """What a sync client answers, a user if nothing else is asked for."""
    return client.create(**{"messages": asked(), "response_model": User, "model": "m"} | options)


def sdk(server: OpenAIServer, **options: Any) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(verify=False)
    usual = {"base_url": server.url, "api_key": "k", "max_retries": 0, "http_client": http}
    return openai.OpenAI(**usual | options)


# -- every method in every mode --------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_every_call_is_made_once(server: OpenAIServer, mode: Any, is_async: bool):
    """Three equal calls of every method make one request, and their answers are the same."""
    found, wanted = {}, {}
    uncached = plain(server, mode, is_async=is_async)
    for name, call in CALLS.items():
        client = cache_client(uncached, MemoryCache())
        if fits(name, client):
            calls, answers = await thrice(server, client, call)
            found[name] = calls, [difference(answer, answers[0]) for answer in answers]
            wanted[name] = 1, [None, None, None]
    assert found == wanted and len(found) >= 16


@pytest.mark.parametrize("mode", THOROUGH, ids=lambda mode: mode.name)
async def test_answers_are_those_of_the_plain_client(
    server: OpenAIServer, mode: Any, is_async: bool
):
    """A cached client gives what a plain one gives, on a miss as on a hit."""
    client = plain(server, mode, is_async=is_async)
    cached = cache_client(client, MemoryCache())
    for name, call in CALLS.items():
        if fits(name, cached):
            wanted = _types(await outcome(call(client)))
            assert _types(await outcome(call(cached))) == wanted, name
            assert _types(await outcome(call(cached))) == wanted, name


def _types(answer: Any) -> Any:
    """The names of the types of an answer and its items: instructor derives one for each call.

    What it makes of a model for ``Partial`` comes from a cache as the model itself.
    """
    name = f"{type(answer).__module__}.{type(answer).__qualname__.removeprefix('Partial')}"
    return (name, *map(_types, answer)) if isinstance(answer, (list, tuple)) else name


FEW = ("`create`", "`create_partial`", "`create_iterable`")


@pytest.mark.parametrize(
    "names", [FEW, pytest.param(tuple(CALLS), marks=pytest.mark.slow)], ids=["few", "all"]
)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_tenants(server: OpenAIServer, mode: Any, is_async: bool, names: tuple[str, ...]):
    """Two API keys never share an answer of any method; those of one namespace share them all."""
    tenants = [plain(server, mode, is_async=is_async, key=key) for key in ("one", "two")]
    for options, wanted in [({}, {"one": 1, "two": 1}), ({"namespace": "team"}, {"one": 1})]:
        for name in names:
            memory = MemoryCache()
            clients = [cache_client(tenant, memory, **options) for tenant in tenants]
            if fits(name, clients[0]):
                server.reset()
                call = CALLS[name]
                first, second, *again = [await outcome(call(each)) for each in clients * 2]
                assert server.by_key == wanted, name
                assert difference(again, [first, first if options else second]) is None, name


def test_50_threads_make_one_call(server: OpenAIServer):
    """Fifty threads that ask the same at once get copies of one answer."""
    server.latency = 0.3
    client = cache_client(plain(server), MemoryCache())
    with ThreadPoolExecutor(50) as pool:
        users = list(pool.map(lambda _: ask(client), range(50)))
    assert server.calls == 1
    assert len({user.age for user in users}) == 1 and len(set(map(id, users))) == 50


async def test_50_tasks_make_one_call(server: OpenAIServer):
    """Fifty tasks that ask the same at once get one answer."""
    server.latency = 0.3
    client = cache_client(plain(server, is_async=True), MemoryCache())
    users = await asyncio.gather(*(ask(client) for _ in range(50)))
    assert server.calls == 1 and len({user.age for user in users}) == 1


# -- what counts -----------------------------------------------------------------------------


class Other(BaseModel):
    """Another question."""

    name: str
    age: int


COUNTED: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "Who is Bob?"}]},
    "role": {"messages": [{"role": "system", "content": "Who is Ada?"}]},
    "model": {"model": "other"},
    "response model": {"response_model": Other},
    "description": {"response_model": create_model("User", __base__=User, age=(int, Field(gt=0)))},
    "optional": {"response_model": Iterable[User]},
    "strict": {"strict": False},
    "context": {"context": {"who": "Bob"}},
    "temperature": {"temperature": 0.5},
    "seed": {"seed": 1},
    "max_tokens": {"max_tokens": 100},
    "store": {"store": True},
    "metadata": {"metadata": {"team": "a"}},
    "extra body": {"extra_body": {"top_k": 3}},
    "extra query": {"extra_query": {"version": "2"}},
    "header": {"extra_headers": {"X-Tenant": "a"}},
    "authorization": {"extra_headers": {"Authorization": "Bearer other"}},
    "language": {"extra_headers": {"Accept-Language": "fr"}},
    "a header like one for tracing": {"extra_headers": {"X-Trace-Tenant": "a"}},
    "secret mode": {"extra_headers": {"X-Secret-Mode": "on"}},
}
TRACING = (
    *("X-Trace-Id", "X-Span-Id", "Trace-Id", "Request-Id", "Correlation-Id", "X-Amzn-RequestId"),
    *("x-ms-client-request-id", "x-ms-request-id", "x-goog-request-id", "x-litellm-trace-id"),
    *("X-Portkey-Trace-Id", "langfuse-trace-id", "x-langfuse-trace-id", "elastic-apm-traceparent"),
    *("x-ot-span-context", "ot-tracer-traceid", "ot-tracer-spanid", "ot-tracer-sampled"),
    *("grpc-trace-bin", "x-honeycomb-trace", "x-instana-t", "x-instana-s", "x-instana-l"),
    *("dd-trace-id", "x-newrelic-id", "cf-ray", "x-vercel-id", "x-transaction-id"),
    *("x-request-start", "X-Correlation-Id", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context"),
)
NOT_COUNTED: dict[str, dict[str, Any]] = {
    "max_retries": {"max_retries": 7},
    "timeout": {"timeout": 33.0},
    "user": {"user": "u-17"},
    "user in the body": {"extra_body": {"user": "u-17"}},
    "safety_identifier": {"safety_identifier": "u-17"},
    "prompt cache": {"prompt_cache_key": "k"},
    "traceparent": {"extra_headers": {"traceparent": "00-1-2-01"}},
    "request id": {"extra_headers": {"X-Request-ID": "17", "X-B3-TraceId": "1"}},
    "other tracing": {
        "extra_headers": {
            "Helicone-Request-Id": "17",
            "Helicone-Session-Id": "17",
            "langsmith-trace": "17",
            "uber-trace-id": "17",
            "x-client-request-id": "17",
        }
    },
    "ids of tracing": {"extra_headers": dict.fromkeys(TRACING, "17")},
    "not given": {"temperature": openai.NOT_GIVEN},
}


@pytest.mark.parametrize("change", COUNTED, ids=str)
def test_what_may_change_the_answer_counts(server: OpenAIServer, change: str):
    """A call that differs in it asks anew; asked again, both are known."""
    client = cache_client(plain(server), MemoryCache())
    for options in ({}, COUNTED[change]) * 2:
        ask(client, **options)
    assert server.calls == 2


@pytest.mark.parametrize("change", NOT_COUNTED, ids=str)
def test_what_can_not_change_the_answer_does_not_count(server: OpenAIServer, change: str):
    """A call that differs in it only is answered from the cache."""
    client = cache_client(plain(server), MemoryCache())
    ask(client)
    ask(client, **NOT_COUNTED[change])
    assert server.calls == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Union[User, Other], Union[Other, User]),
        (list[User | Other], list[Other | User]),
        (Literal["a", "b"], Literal["b", "a"]),
    ],
    ids=["union", "list", "literal"],
)
def test_the_order_in_a_response_model_counts(server: OpenAIServer, one: Any, other: Any):
    """What `typing` calls equal is another question: the first type that fits is the answer's."""
    client = plain(server, instructor.Mode.JSON)
    cached = cache_client(client, MemoryCache())
    wanted = [ask(client, response_model=model) for model in (one, other)]
    for _ in range(2):
        answers = [ask(cached, response_model=model) for model in (one, other)]
        assert _types(answers) == _types(wanted)
    assert server.calls == 4


@pytest.mark.parametrize("name", ["X-Tenant", "X-Api-Key", "Cookie"])
def test_default_headers_that_a_call_leaves_out(server: OpenAIServer, name: str):
    """A call without one of the client's headers is another question, or of another account."""
    client = instructor.from_openai(sdk(server, default_headers={name: "a"}))
    cached = cache_client(client, MemoryCache())
    for headers in ({}, {name: openai.Omit()}) * 2:
        ask(cached, extra_headers=headers)
    assert server.calls == 2


def test_clients_without_credentials_share_nothing(server: OpenAIServer):
    """A header for credentials that is left out tells no tenant from another."""
    memory = MemoryCache()
    for _ in range(2):
        client = sdk(server)
        client.api_key = ""
        cached = cache_client(instructor.from_openai(client), memory)
        with pytest.warns(UnkeyableArgumentWarning, match="no credentials to tell tenants apart"):
            ask(cached, extra_headers={"Authorization": openai.Omit()})
    assert server.calls == 2


def test_hooks_of_a_call_do_not_count(server: OpenAIServer):
    """Handlers given with a call, or to the client, leave its key as it is."""
    client = cache_client(plain(server), MemoryCache())
    ask(client)
    client.on("completion:kwargs", lambda **_: None)
    ask(client)
    assert server.calls == 1


def test_ignored_arguments_do_not_count(server: OpenAIServer):
    """``ignore=`` names arguments of the provider's that do not change the answer."""
    client = cache_client(plain(server), MemoryCache(), ignore=("metadata",))
    for team in "ab":
        ask(client, metadata={"team": team})
    assert server.calls == 1


CLIENTS: dict[str, dict[str, Any]] = {
    "organization": {"organization": "org-2"},
    "project": {"project": "proj-2"},
    "default query": {"default_query": {"api-version": "2"}},
    "default headers": {"default_headers": {"X-Tenant": "b"}},
    "authorization": {"default_headers": {"Authorization": "Bearer other"}},
    "cookies": {"http_client": openai.DefaultHttpxClient(cookies={"session": "b"})},
    "query of the HTTP client": {"http_client": openai.DefaultHttpxClient(params={"tenant": "b"})},
    "headers of the HTTP client": {
        "http_client": openai.DefaultHttpxClient(headers={"X-Tenant": "c"})
    },
}


@pytest.mark.parametrize("change", CLIENTS, ids=str)
def test_other_endpoints_and_accounts_are_asked(server: OpenAIServer, change: str):
    """Clients that differ in where they ask, or for whom, don't share; equal ones do."""
    memory = MemoryCache()
    for options in ({}, CLIENTS[change]) * 2:
        ask(cache_client(instructor.from_openai(sdk(server, **options)), memory))
    assert server.calls == 2


def _hook(request: Any) -> None:
    request.headers["Authorization"] = "Bearer other"


class Transport(Base):
    """One that may write other headers."""


class OwnHeaders(openai.OpenAI):
    """A client whose headers are made by code of its user's."""

    @property
    def auth_headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer other"}


class Prepared(openai.OpenAI):
    """A client whose requests are prepared by code of its user's."""

    def _prepare_options(self, options: Any) -> Any:
        return super()._prepare_options(options)


HIDDEN: dict[str, Any] = {
    "event_hooks": lambda server: sdk(
        server, http_client=openai.DefaultHttpxClient(event_hooks={"request": [_hook]})
    ),
    "Transport": lambda server: sdk(
        server, http_client=openai.DefaultHttpxClient(transport=Transport())
    ),
    "auth_headers": lambda server: OwnHeaders(base_url=server.url, api_key="k", max_retries=0),
    "_prepare_options": lambda server: Prepared(base_url=server.url, api_key="k", max_retries=0),
}


@pytest.mark.parametrize("found", HIDDEN, ids=str)
def test_what_may_write_other_credentials(server: OpenAIServer, found: str):
    """A client with code that may change its requests is not cached, said once, but by name."""
    client = instructor.from_openai(HIDDEN[found](server))
    cached = cache_client(client, MemoryCache())
    with pytest.warns(UnkeyableArgumentWarning, match=f"{found}.*namespace=") as told:
        assert ask(cached).age != ask(cached).age
    assert len(told) == 1
    named = cache_client(client, MemoryCache(), namespace="team")
    assert ask(named).age == ask(named).age


HTTPX: Any = sys.modules[Base.__module__.partition(".")[0]]


@pytest.mark.parametrize("namespace", [None, "team"])
@pytest.mark.parametrize("where", ["transport", "mounts"])
def test_sockets_count(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, where: str, namespace: str | None
):
    """Whatever the URL says, requests go to the socket that the HTTP client is bound to."""
    monkeypatch.setattr(HTTPX.HTTPTransport, "handle_request", Base().handle_request)
    memory = MemoryCache()
    for path in ("/a.sock", "/b.sock") * 2:
        transport = HTTPX.HTTPTransport(uds=path)
        there = (
            {"transport": transport} if where == "transport" else {"mounts": {"all://": transport}}
        )
        client = sdk(server, http_client=openai.DefaultHttpxClient(**there))
        ask(cache_client(instructor.from_openai(client), memory, namespace=namespace))
    assert server.calls == 2


ANSWERING: dict[str, Any] = {
    "function": lambda: {"transport": HTTPX.MockTransport(_forwarded)},
    "app": lambda: {"mounts": {"http://": HTTPX.WSGITransport(app=_app)}},
}


def _forwarded(request: Any) -> Any:
    return Base().handle_request(request)


def _app(environ: Any, start: Any) -> Any:
    body = environ["wsgi.input"].read()
    port = int(environ["SERVER_PORT"])
    connection = HTTPConnection("127.0.0.1", port)
    path, headers = environ["PATH_INFO"], {"Content-Type": "application/json"}
    connection.request("POST", path, body, headers | {"Authorization": "Bearer k"})
    answer = connection.getresponse()
    start(f"{answer.status} OK", [("Content-Type", "application/json")])
    return [answer.read()]


@pytest.mark.parametrize("namespace", [None, "team"])
@pytest.mark.parametrize("found", ANSWERING, ids=str)
def test_transports_that_ask_no_server(server: OpenAIServer, found: str, namespace: Any):
    """A function or an app that answers is in no URL: who has another one gets other answers."""
    cache = MemoryCache()

    def client() -> Any:
        http = openai.DefaultHttpxClient(**ANSWERING[found]())
        client = instructor.from_openai(sdk(server, http_client=http))
        return cache_client(client, cache, namespace=namespace)

    one, other = client(), client()
    assert ask(one).age == ask(one).age != ask(other).age == ask(other).age


def test_proxies_of_the_environment(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch):
    """A client is cached whose HTTP client has found proxies, and hosts without, for itself."""
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:9")
    monkeypatch.setenv("NO_PROXY", "localhost")
    http = openai.DefaultHttpxClient()
    assert len(http._mounts) == 2
    cached = cache_client(instructor.from_openai(sdk(server, http_client=http)), MemoryCache())
    assert ask(cached).age == ask(cached).age


SESSIONS: dict[str, Any] = {
    "none": lambda: None,
    "plain": aiohttp.ClientSession,
    "headers": lambda: aiohttp.ClientSession(headers={"X-Tenant": "a"}),
    "cookies": lambda: aiohttp.ClientSession(cookies={"tenant": "a"}),
    "environment": lambda: aiohttp.ClientSession(trust_env=True),
    "callable": lambda: aiohttp.ClientSession,
}


@new_only
@pytest.mark.parametrize("held", SESSIONS)
async def test_requests_over_aiohttp(server: OpenAIServer, held: str):
    """They are cached unless the session may add something of its own, which is told."""
    http, uncached = openai.DefaultAioHttpClient(), held not in ("none", "plain")
    http._transport.client = SESSIONS[held]()
    client = openai.AsyncOpenAI(base_url=server.url, api_key="k", http_client=http)
    cached = cache_client(instructor.from_openai(client), MemoryCache())
    told = pytest.warns(UnkeyableArgumentWarning, match="AiohttpTransport")
    with told if uncached else contextlib.nullcontext():
        first = await ask(cached)
        if held != "callable":  # of which there is a session by now
            assert ((await ask(cached)).age == first.age) is not uncached
    await http.aclose()


class Tagged(openai.OpenAI):
    """A client that its user's class adds something to."""

    team = "docs"

    def whoami(self) -> str:
        return self.team


def test_subclasses_that_override_nothing(server: OpenAIServer):
    """A subclass of the SDK's client that asks as that does is cached like any other."""
    client = instructor.from_openai(Tagged(base_url=server.url, api_key="k", max_retries=0))
    cached = cache_client(client, MemoryCache())
    assert ask(cached).age == ask(cached).age and server.calls == 1


def test_cookies_that_a_server_sets(server: OpenAIServer):
    """What a server has the HTTP client remember changes no key: the next call is a hit."""
    plain_sdk = sdk(server)
    cached = cache_client(instructor.from_openai(plain_sdk), MemoryCache())
    first = ask(cached)
    _set_cookie(plain_sdk._client)
    assert ask(cached).age == first.age and server.calls == 1


def _set_cookie(http: Any) -> None:
    request = http.build_request("GET", "https://api.openai.com/")
    cookie = "__cf_bm=17; path=/; domain=.api.openai.com; HttpOnly; Secure; SameSite=None"
    kind = sys.modules[type(http).__mro__[-3].__module__.partition(".")[0]].Response
    http.cookies.extract_cookies(kind(200, headers={"Set-Cookie": cookie}, request=request))
    assert list(http.cookies.jar)


def test_a_namespace_replaces_the_account_only(server: OpenAIServer):
    """Organization and project are of the account; headers count, however secret they look."""
    memory = MemoryCache()
    for options in ({}, {"organization": "o"}, {"project": "p"}, {"api_key": "other"}):
        client = instructor.from_openai(sdk(server, **options))
        ask(cache_client(client, memory, namespace="team"))
    assert server.calls == 1
    for mode in "abab":
        client = instructor.from_openai(sdk(server, default_headers={"X-Secret-Mode": mode}))
        ask(cache_client(client, memory, namespace="team"))
    assert server.calls == 3


def patched(create: Any, mode: Any = TOOLS, client: Any = None) -> Any:
    """A client of instructor's over a function."""
    return instructor.Instructor(client=client, create=instructor.patch(create=create, mode=mode))


def _closure(create: Any, **settings: Any) -> Any:
    def create_with(**kwargs: Any) -> Any:
        return create(**{**kwargs, **settings})

    return create_with


CAPTURED: dict[str, Any] = {
    "a dict": {"extra_body": {"top_k": 1}},
    "a list": {"stop": ["a"]},
    "a header": {"extra_headers": {"X-Tenant": "a"}},
    "a credential": {"extra_headers": {"Authorization": "Bearer other"}},
}


@pytest.mark.parametrize("way", [functools.partial, _closure], ids=["partial", "closure"])
@pytest.mark.parametrize("change", CAPTURED, ids=str)
def test_settings_in_a_function_count(server: OpenAIServer, way: Any, change: str):
    """What a partial or a closure brings is part of the key, whatever its type."""
    memory, create = MemoryCache(), sdk(server).chat.completions.create
    for settings in ({}, CAPTURED[change]) * 2:
        ask(cache_client(patched(way(create, **settings)), memory))
    assert server.calls == 2


def test_credentials_in_a_partial(server: OpenAIServer):
    """A namespace stands for the credentials that a partial brings too, and tracing is nothing."""
    memory, create = MemoryCache(), sdk(server).chat.completions.create
    for key in "ab":
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": key}
        client = patched(functools.partial(create, extra_headers=headers))
        ask(cache_client(client, memory, namespace="team"))
    assert server.calls == 1


def test_the_mode_given_to_patch_counts(server: OpenAIServer):
    """Two functions patched for two modes don't share, though their clients name neither."""
    memory, plain_sdk = MemoryCache(), sdk(server)
    for mode in (TOOLS, instructor.Mode.JSON) * 2:
        ask(cache_client(patched(plain_sdk.chat.completions.create, mode, plain_sdk), memory))
    assert server.calls == 2


class Router:
    """What asks one of many models by code of its own, as litellm's router does."""

    def __init__(self, client: Any, models: dict[str, str]) -> None:
        self.client, self.models = client, models

    def completion(self, **kwargs: Any) -> Any:
        model = self.models[kwargs.pop("model")]
        return self.client.chat.completions.create(model=model, **kwargs)


@pytest.mark.parametrize("way", ["method", "closure"])
def test_functions_that_can_not_be_read(server: OpenAIServer, way: str):
    """Where endpoint and model can't be told nothing is cached, under a namespace either."""
    router = Router(sdk(server), {"m": "x"})
    create = router.completion if way == "method" else lambda **kwargs: router.completion(**kwargs)
    client = cache_client(patched(create), MemoryCache(), namespace="team")
    with pytest.warns(UnkeyableArgumentWarning, match=r"(?i)router.*SDK's own client") as told:
        assert ask(client).age != ask(client).age
    assert len(told) == 1


def test_lambdas_differ_in_their_code(server: OpenAIServer):
    """Of two lambdas over one client each has answers of its own, a namespace or not."""
    memory, one = MemoryCache(), sdk(server)
    hot = lambda **kwargs: one.chat.completions.create(temperature=1, **kwargs)  # noqa: E731
    cold = lambda **kwargs: one.chat.completions.create(temperature=0, **kwargs)  # noqa: E731
    for create in (hot, cold) * 2:
        ask(cache_client(patched(create), memory, namespace="team"))
    assert [request["temperature"] for request in server.requests] == [1, 0]


GLOBALS = """
import asyncio, collections, contextvars, functools, os, threading, time
import conf, openai, pydantic, tenacity

class Holder:
    client = None

def of_a_global(**kwargs):
    return client.chat.completions.create(extra_body=SETTINGS, **kwargs)

def of_a_module(**kwargs):
    return conf.client.chat.completions.create(extra_body=conf.SETTINGS, **kwargs)

def made_here(**kwargs):
    return make().chat.completions.create(extra_body=SETTINGS, **kwargs)

def make():
    return openai.OpenAI(base_url=URL, api_key="k", max_retries=0)

def of_a_tenant(**kwargs):
    return clients["a"].chat.completions.create(extra_body=SETTINGS, **kwargs)

def of_an_object(**kwargs):
    return holder.client.chat.completions.create(extra_body=SETTINGS, **kwargs)

def with_words(**kwargs):
    return client.chat.completions.create(**kwargs) if VOCABULARY else None

asked, last, per_model, recent = 0, None, collections.Counter(), collections.deque(maxlen=3)
notes = []

def that_counts(**kwargs):
    global asked
    asked += 1
    return client.chat.completions.create(**kwargs)

def that_throttles(**kwargs):
    global last
    time.sleep(max(0.0, (last or 0.0) + 0.0001 - time.monotonic()))
    last = time.monotonic()
    recent.append(last)
    return client.chat.completions.create(**kwargs)

def that_may_trace(**kwargs):
    if IS_TRACED:
        conf.tracing.start()
    return client.chat.completions.create(**kwargs)

lock, slots, later = threading.RLock(), threading.Semaphore(2), asyncio.Semaphore(2)

def with_locks(**kwargs):
    with lock, slots:
        return client.chat.completions.create(**kwargs) if later else None

@functools.lru_cache
def the_client():
    return client

def of_a_memo(**kwargs):
    return the_client().chat.completions.create(extra_body=SETTINGS, **kwargs)

@tenacity.retry(stop=tenacity.stop_after_attempt(2))
def that_retries(**kwargs):
    return client.chat.completions.create(extra_body=SETTINGS, **kwargs)

def with_tools(**kwargs):
    pydantic.create_model("M")
    isinstance(kwargs, pydantic.BaseModel)
    return client.chat.completions.create(extra_body=SETTINGS, **kwargs)

tenant = contextvars.ContextVar("tenant")

def for_a_tenant(**kwargs):
    return client.with_options(api_key=tenant.get()).chat.completions.create(**kwargs)

class Traced:
    def __cache_key__(self):
        return "traced"

traced = Traced()

def that_is_traced(**kwargs):
    return client.chat.completions.create(**kwargs) if traced else None

def of_a_client_of_its_own(**kwargs):
    global own
    own = own or openai.OpenAI(base_url=os.environ["URL"], api_key="k", max_retries=0)
    return own.chat.completions.create(**kwargs)

def counted(model):
    per_model[model] += 1

def that_lets_count(**kwargs):
    counted(kwargs["model"])
    return client.chat.completions.create(**kwargs)

def that_takes_notes(**kwargs):
    notes.append(kwargs["model"])
    return client.chat.completions.create(**kwargs)
"""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with functions that ask by what stands in it, and in the module ``conf``."""
    for name in ("conf", "app"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    exec(GLOBALS, vars(sys.modules["app"]))
    return sys.modules["app"]


def fill(app: Any, server: OpenAIServer, top_k: int = 1) -> None:
    app.client = app.conf.client = app.Holder.client = sdk(server)
    app.SETTINGS = app.conf.SETTINGS = {"top_k": top_k}
    app.URL, app.holder, app.clients = server.url, app.Holder(), {"a": app.client}


@pytest.mark.parametrize("name", ["of_a_global", "of_a_module", "made_here"])
def test_globals_of_a_function_count(server: OpenAIServer, app: Any, name: str):
    """Clients and settings of a function's module, and of those it names, are in the key."""
    client = cache_client(patched(getattr(app, name)), MemoryCache(), namespace="team")
    with OpenAIServer() as other:
        for where, top_k in [(server, 1), (server, 2), (other, 1)] * 2:
            fill(app, where, top_k)
            ask(client)
        assert (server.calls, other.calls) == (2, 1)


@pytest.mark.parametrize(
    ("name", "found"),
    [("of_a_tenant", "clients"), ("of_an_object", "holder"), ("with_words", "VOCABULARY")],
)
def test_globals_that_nobody_knows(server: OpenAIServer, app: Any, name: str, found: str):
    """A function that takes its client from a dict or an object is not cached, and that is said.

    Neither does a client of its module stand for it that has the name of an attribute. What is so
    large that reading it would cost more than a hit saves is not read either.
    """
    fill(app, server)
    app.VOCABULARY = {"words": list(range(10_001))}
    client = cache_client(patched(getattr(app, name)), MemoryCache())
    with pytest.warns(UnkeyableArgumentWarning, match=f"{found}, a .*SDK's own client"):
        assert ask(client).age != ask(client).age


PASSED = ["with_locks", "of_a_memo", "that_retries", "with_tools", "that_is_traced"]


@pytest.mark.parametrize("name", PASSED)
def test_what_can_not_answer_is_passed_over(server: OpenAIServer, app: Any, name: str):
    """A function may use locks, memos, retries and tools; what those wrap is read."""
    fill(app, server)
    client = cache_client(patched(getattr(app, name)), MemoryCache())
    assert len({ask(client).age for _ in range(2)}) == server.calls == 1
    app.client = sdk(server, api_key="other")
    ask(client)
    assert server.by_key["other"] == (name != "of_a_memo")  # which has kept the first


def test_context_variables_count(server: OpenAIServer, app: Any):
    """By what they hold where a call is made: that may choose the account."""
    fill(app, server)
    client = cache_client(patched(app.for_a_tenant), MemoryCache())
    for tenant in "abab":
        app.tenant.set(tenant)
        ask(client)
    assert server.by_key == {"a": 1, "b": 1}


@pytest.mark.parametrize("name", ["that_counts", "that_throttles", "that_lets_count"])
def test_functions_that_count_their_calls(server: OpenAIServer, app: Any, name: str):
    """What a function counts or times is no setting, nor is it a change during a call."""
    fill(app, server)
    client = cache_client(patched(getattr(app, name)), MemoryCache())
    assert len({ask(client).age for _ in range(3)}) == server.calls == 1


def test_a_setting_that_each_call_changes(server: OpenAIServer, app: Any):
    """Answers are not stored then, which is told, once, with the name of that setting."""
    fill(app, server)
    events = list[Event]()
    client = cache_client(patched(app.that_takes_notes), MemoryCache(), observer=events.append)
    with pytest.warns(UnstorableResultWarning, match=r"found notes.*wanted.*Counter") as told:
        assert ask(client).age != ask(client).age
    assert len(told) == 1
    assert [event.kind for event in events] == ["miss", "unstorable"] * 2


def test_a_module_that_loads_later(server: OpenAIServer, app: Any):
    """A part of a module that can't be loaded is not there: only the function may need it."""

    def missing(name: str) -> Any:
        raise AttributeError(name) if name.startswith("__") else ImportError(f"conf[{name}]")

    fill(app, server)
    app.conf.__getattr__, app.IS_TRACED = missing, False
    client = cache_client(patched(app.that_may_trace), MemoryCache())
    assert ask(client).age == ask(client).age


def test_a_client_that_is_made_at_the_first_call(
    server: OpenAIServer, app: Any, monkeypatch: pytest.MonkeyPatch
):
    """It counts from then on, though it is the function that puts it into its module."""
    memory = MemoryCache()
    client = cache_client(patched(app.of_a_client_of_its_own), memory, namespace="team")
    with OpenAIServer() as other:
        for where in (server, other):
            app.own = None
            monkeypatch.setenv("URL", where.url)
            assert len({ask(client).age for _ in range(3)}) == where.calls == 2


LITELLM: dict[str, Any] = {
    "api_base": "https://other",
    "organization": "other",
    "headers": {"X-Tenant": "other"},
    "model_alias_map": {"m": "other"},
    "OPENAI_BASE_URL": "https://other",
    "AZURE_API_BASE": "https://other",
}


@pytest.mark.parametrize("name", LITELLM, ids=str)
def test_what_litellm_reads_counts(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Settings in litellm's module, and those in the environment, are in the key."""
    module = types.ModuleType("litellm")
    module.__dict__.update(create=sdk(server).chat.completions.create, **dict.fromkeys(LITELLM))
    exec("def completion(api_key, **kwargs): return create(**kwargs)", vars(module))
    monkeypatch.setitem(sys.modules, "litellm", module)
    client = cache_client(patched(module.completion), MemoryCache())
    for value in (None, LITELLM[name]) * 2:
        if name.isupper():
            monkeypatch.setenv(name, value or "")
        setattr(module, name, value)
        ask(client, api_key="k")
    assert server.calls == 2


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "GOOGLE_CLOUD_PROJECT", "COMPOSE_PROJECT"])
def test_litellm_is_played_elsewhere(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
):
    """Whom litellm asks, as the environment says, is not in a cassette, as no client's URL is."""
    module = types.ModuleType("litellm")
    module.__dict__.update(create=sdk(server).chat.completions.create)
    exec("def completion(**kwargs): return create(**kwargs)", vars(module))
    monkeypatch.setitem(sys.modules, "litellm", module)
    client = cache_client(patched(module.completion), MemoryCache())
    for mode in ("once", "none"):
        with Cassette(tmp_path / "a.json", mode).playing():
            ask(client)
        monkeypatch.setenv(name, "other")
    assert server.calls == 1


def test_the_order_in_a_context_counts(server: OpenAIServer):
    """A template may loop over a dict, so its order makes another prompt."""
    client = cache_client(plain(server), MemoryCache())
    messages = [{"role": "user", "content": "{% for name in d %}{{ name }} {% endfor %}"}]
    for names in ("ab", "ba") * 2:
        ask(client, messages=messages, context={"d": dict.fromkeys(names, 1)})
    assert [r["messages"][-1]["content"].strip() for r in server.requests] == ["a b", "b a"]


def test_the_order_in_a_body_counts(server: OpenAIServer):
    """A schema in a request is read in its order; messages that say the same do not differ."""
    client = cache_client(plain(server), MemoryCache())
    for names in ("ab", "ba") * 2:
        ask(client, extra_body={"guided": {"fields": dict.fromkeys(names, 1)}})
    assert server.calls == 2


def test_two_servers(server: OpenAIServer):
    """The same question to another base URL is another call."""
    memory = MemoryCache()
    with OpenAIServer() as other:
        users = [ask(cache_client(plain(each), memory)) for each in (server, other)]
    assert (server.calls, other.calls) == (1, 1)
    assert users[0].age != users[1].age


def test_the_clients_model_counts(server: OpenAIServer):
    """A model named to the client only, wherever it is kept, is part of the key as if called."""
    memory = MemoryCache()
    unnamed = {"messages": asked(), "response_model": User}
    for name in ("a", "b"):
        client = cache_client(plain(server, model=name), memory)
        client.create(**unnamed)
        client.create(**unnamed, model=name)
    cache_client(plain(server), memory).create(**unnamed, model="a")
    assert [request["model"] for request in server.requests] == ["a", "b"]


def test_from_provider_names_a_model(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch):
    """Two clients of from_provider differ in their models, though no argument says so."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    memory = MemoryCache()
    for name in "abab":
        client = cache_client(instructor.from_provider(f"openai/{name}"), memory)
        client.create(messages=asked(), response_model=User)
    assert [request["model"] for request in server.requests] == ["a", "b"]


def test_a_model_in_a_partial(server: OpenAIServer):
    """A model that is bound to instructor's function by `functools.partial` counts as well."""
    memory = MemoryCache()
    for name in "abab":
        client = plain(server)
        client.create_fn = functools.partial(client.create_fn, model=name)
        cache_client(client, memory).create(messages=asked(), response_model=User)
    assert [request["model"] for request in server.requests] == ["a", "b"]


async def test_sync_and_async_clients_share(server: OpenAIServer):
    """An answer that a sync client got is there for an async one."""
    memory = MemoryCache()
    user = ask(cache_client(plain(server), memory))
    assert difference(await ask(cache_client(plain(server, is_async=True), memory)), user) is None


def test_modes_for_a_while(server: OpenAIServer):
    """`bypass` and `refresh` hold for clients, and a hook hears of their calls once."""
    client = cache_client(plain(server), MemoryCache())
    heard = Heard(client)
    first = ask(client)
    with bypass():
        second = ask(client)
    assert ask(client).age == first.age != second.age
    with refresh():
        third = ask(client)
    assert ask(client).age == third.age and server.calls == 3
    assert len(heard.responses) == 5 and heard.tokens == 3 * 15


def test_what_changes_later_counts(server: OpenAIServer):
    """A rotated API key and changed default arguments are seen at the next call."""
    client = cache_client(plain(server), MemoryCache())
    first = ask(client)
    client.client.api_key = "rotated"
    second = ask(client)
    client.kwargs["temperature"] = 0.7
    third = ask(client)
    del client.kwargs["temperature"]
    assert ask(client).age == second.age
    client.client.api_key = "k"
    assert ask(client).age == first.age
    assert len({first.age, second.age, third.age}) == 3 == server.calls


def test_credentials_are_nowhere_to_be_found(server: OpenAIServer):
    """Neither a key nor a plain digest of it is in the store, or in its keys."""
    memory, secret = MemoryCache(), "sk-secret-17"
    ask(cache_client(plain(server, key=secret), memory))
    held = b"".join(key.encode() + (memory.get(key) or b"") for key in memory.scan(""))
    for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        assert hashlib.new(algorithm, secret.encode()).hexdigest()[:12].encode() not in held
    assert held and secret.encode() not in held


def _token() -> str:
    return "token"


def test_credentials_that_can_not_be_read(server: OpenAIServer):
    """A client whose token is made when needed is not cached, said once; a namespace helps."""
    client = instructor.from_openai(
        openai.AzureOpenAI(
            azure_endpoint=server.url, api_version="1", azure_ad_token_provider=_token
        )
    )
    cached = cache_client(client, MemoryCache())
    with pytest.warns(
        UnkeyableArgumentWarning, match=r"azure_ad_token_provider.*namespace"
    ) as told:
        ask(cached)
        ask(cached)
    assert server.calls == 2 and len(told) == 1
    named = cache_client(client, MemoryCache(), namespace="team")
    ask(named)
    ask(named)
    assert server.calls == 3


def test_unknown_objects_in_a_call(server: OpenAIServer):
    """A call with an object that has no key is not cached; a warning names the argument, once."""

    class Tool(dict[str, Any]):
        def __init__(self) -> None:
            self.hidden = object()

    client = cache_client(plain(server), MemoryCache())
    with pytest.warns(UnkeyableArgumentWarning, match="'extra_body'") as told:
        for _ in range(2):
            ask(client, extra_body=Tool())
    assert server.calls == 2 and len(told) == 1


@pytest.mark.parametrize("where", ["call", "offline"], ids=str)
def test_no_credential_is_shown(server: OpenAIServer, where: str):
    """Neither what is kept of a call to be read, nor what offline mode tells, shows a secret."""
    secrets = ("sk-secret-17", "org-secret", "query-secret", "header-secret", "own-words")
    client = instructor.from_openai(
        sdk(
            server,
            api_key=secrets[0],
            organization=secrets[1],
            default_query={"code": secrets[2]},
            default_headers={"X-Own": secrets[3]},
        )
    )
    memory = MemoryCache()
    cached = cache_client(client, memory)
    headers = {"x-portkey-config": secrets[4], "anthropic-beta": "words-2025"}
    ask(cached, extra_headers=headers)
    if where == "call":
        text = "".join(Entry.unpack(key, memory.get(key) or b"").call for key in memory.scan(""))
        assert "Who is Ada?" in text and "words-2025" in text
    else:
        with offline(), pytest.raises(CacheMiss) as raised:
            ask(cached, temperature=0.5, extra_headers=headers)
        text = str(raised.value)
        assert "temperature" in text
    assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("kind", [list, tuple])
def test_pictures_that_instructor_reads(server: OpenAIServer, tmp_path: Path, kind: Any):
    """With autodetect_images a file's content counts, not only its path."""
    picture = tmp_path / "picture.png"
    client = cache_client(plain(server), MemoryCache())
    for content in (b"one", b"two", b"two"):
        picture.write_bytes(content)
        messages = kind([{"role": "user", "content": kind([str(picture), "What is it?"])}])
        ask(client, messages=messages, autodetect_images=True)
    assert server.calls == 2


def complete(messages: Any, **_: Any) -> ChatCompletion:
    """A provider that is a function, as litellm's is."""
    server: OpenAIServer = complete.server  # type: ignore[attr-defined]
    return sdk(server).chat.completions.create(messages=messages, **_)


def test_a_function_instead_of_a_client(server: OpenAIServer):
    """What has no credentials to tell is cached under a namespace, or with its own ``api_key=``."""
    complete.server = server  # type: ignore[attr-defined]
    client = instructor.Instructor(client=None, create=instructor.patch(create=complete))
    with pytest.warns(UnkeyableArgumentWarning, match="namespace="):
        ask(cache_client(client, MemoryCache()))
    named = cache_client(client, MemoryCache(), namespace="team")
    assert ask(named).age == ask(named).age
    assert server.calls == 2


# -- what hooks see --------------------------------------------------------------------------


class Heard:
    """Everything that hooks of a client are told."""

    def __init__(self, client: Any) -> None:
        self.kwargs: list[dict[str, Any]] = []
        self.responses: list[Any] = []
        self.usages: list[Any] = []
        client.on("completion:kwargs", lambda **kwargs: self.kwargs.append(kwargs))
        client.on("completion:response", self.responses.append)
        if hasattr(instructor.hooks.HookName, "COMPLETION_USAGE"):
            client.on("completion:usage", lambda usage, **_: self.usages.append(usage))

    @property
    def tokens(self) -> int:
        return sum(response.usage.total_tokens for response in self.responses)


@pytest.mark.parametrize("mode", THOROUGH, ids=lambda mode: mode.name)
async def test_a_hit_is_heard_and_costs_nothing(server: OpenAIServer, mode: Any, is_async: bool):
    """Hooks hear of every call; tokens are counted once; answers keep their true usage."""
    client = cache_client(plain(server, mode, is_async=is_async), MemoryCache())
    heard = Heard(client)
    users = [await outcome(ask(client, temperature=0.1, user="u")) for _ in range(3)]
    assert len(heard.kwargs) == len(heard.responses) == 3
    assert heard.tokens == 15 and len(heard.usages) in (0, 1)
    assert {type(each) for each in heard.responses} == {type(heard.responses[0])}
    assert heard.kwargs[2]["temperature"] == 0.1 and heard.kwargs[2]["model"] == "m"
    assert heard.kwargs[2]["user"] == "u" and heard.kwargs[2].keys() <= heard.kwargs[0].keys()
    assert {user._raw_response.usage.total_tokens for user in users} == {15}


def test_hooks_that_change_what_they_hear(server: OpenAIServer):
    """A handler gets a completion of its own: the answer's is as it was."""
    client = cache_client(plain(server), MemoryCache())
    ask(client)
    client.on("completion:response", lambda response: response.choices.clear())
    assert len(ask(client)._raw_response.choices) == 1


def test_hooks_that_raise(server: OpenAIServer):
    """A handler that fails is a warning, as it is without a cache; the answer is given."""
    client = cache_client(plain(server), MemoryCache())
    first = ask(client)
    client.on("completion:response", lambda _: 1 / 0)
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        assert ask(client).age == first.age
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(client).age == first.age


def stream(client: Any, **options: Any) -> Any:
    return client.create_iterable(messages=asked(), response_model=User, model="m", **options)


async def test_streams_are_heard(server: OpenAIServer, is_async: bool):
    """Hooks hear of each stream's call; of a hit there is no completion that could be told."""
    client = cache_client(plain(server, is_async=is_async), MemoryCache())
    heard = Heard(client)
    for _ in range(3):
        await outcome(stream(client))
    assert len(heard.kwargs) == 3 and len(heard.responses) == 1 == server.calls


async def test_a_stream_that_is_left(server: OpenAIServer, is_async: bool):
    """Whoever leaves a stream in the middle has nothing stored; the next call asks."""
    client = cache_client(plain(server, is_async=is_async), MemoryCache())
    items = stream(client)
    first = await items.__anext__() if is_async else next(items)
    await outcome(items.aclose()) if is_async else items.close()
    for _ in range(20):
        await asyncio.sleep(0)  # the loop closes what instructor leaves open
    users = await outcome(stream(client))
    assert server.calls == 2 and first.age != users[0].age
    await outcome(client.client.close())  # instructor leaves the connection of such a stream open


def partials(client: Any, **options: Any) -> Any:
    return ask(client, response_model=instructor.Partial[User], stream=True, **options)


async def begin(client: Any) -> Any:
    """A stream as it is given, of which nothing was read."""
    answer = partials(client, max_retries=0)
    return await answer if hasattr(answer, "__await__") else answer


async def test_streams_fail_when_called(server: OpenAIServer, is_async: bool):
    """An API's error is raised by the call itself, as by the plain client, not by its iteration."""
    client = plain(server, is_async=is_async)
    for one in (client, cache_client(client, MemoryCache())):
        server.faults = [500]
        with pytest.raises(Exception, match="on purpose"):
            await begin(one)


async def test_a_stream_is_asked_as_it_was_keyed(server: OpenAIServer):
    """What changes after the call, before its items are read, is of another call."""
    client = cache_client(plain(server, is_async=True), MemoryCache())
    messages = [{"role": "user", "content": "Who is {{ who }}?"}]
    for later in ("Bob", "Ada"):
        context, body = {"who": "Ada"}, {"top": {"k": 1}}
        items = await partials(client, messages=messages, context=context, extra_body=body)
        context["who"], body["top"]["k"] = later, 2
        client.client.api_key = "rotated"
        await outcome(items)
        client.client.api_key = "k"
    assert server.by_key == {"k": 1} and server.requests[0]["top"] == {"k": 1}
    assert server.requests[0]["messages"][0]["content"] == "Who is Ada?"


class Rotating(MemoryCache):
    """Credentials change, and so does the question, while the store is asked."""

    change: Any = None

    def get(self, key: str) -> bytes | None:
        if self.change is not None:
            self.change()
        return super().get(key)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_a_key_that_is_rotated_meanwhile(
    server: OpenAIServer, is_async: bool, is_stream: bool
):
    """An answer that was asked with another key than the call began with is not stored."""
    memory = Rotating()
    client = cache_client(plain(server, is_async=is_async), memory)
    call = partials if is_stream else ask
    memory.change = lambda: setattr(client.client, "api_key", "rotated")
    first = await outcome(call(client))
    assert server.by_key == {"rotated": 1} and first
    memory.change = None
    client.client.api_key = "k"
    await outcome(call(client))
    assert server.by_key == {"rotated": 1, "k": 1}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_all_that_waited_for_a_key_that_is_rotated(
    server: OpenAIServer, is_async: bool, is_stream: bool
):
    """One of them asks with the new key, and the others get that answer."""
    client = cache_client(plain(server, is_async=is_async), MemoryCache())
    call, server.latency = partials if is_stream else ask, 0.3
    with ThreadPoolExecutor(8) as pool:
        tasks = [asyncio.ensure_future(_made(client, call, is_async, pool)) for _ in range(8)]
        while not server.calls:
            await asyncio.sleep(0.01)
        client.client.api_key = "rotated"
        await asyncio.gather(*tasks)
    assert server.by_key == {"k": 1, "rotated": 1}


async def _made(client: Any, call: Any, is_async: bool, pool: ThreadPoolExecutor) -> Any:
    """The outcome of a call, in this thread or, of sync clients, in one of a pool."""
    if is_async:
        return await outcome(call(client))
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: _whole(call(client)))


def _whole(answer: Any) -> Any:
    return answer if isinstance(answer, BaseModel) else list(answer)


def test_what_a_call_was_given_is_sent(server: OpenAIServer):
    """A context that another thread changes while the store is asked stays as it was keyed."""
    memory, context = Rotating(), {"who": "Ada"}
    client = cache_client(plain(server), memory)
    memory.change = lambda: context.update(who="Bob")
    messages = [{"role": "user", "content": "Who is {{ who }}?"}]
    ask(client, messages=messages, context=context)
    assert server.requests[0]["messages"][-1]["content"] == "Who is Ada?"


def test_50_streams_at_once(server: OpenAIServer):
    """Fifty threads that stream the same at once make one request, and get every item."""
    server.latency = 0.3
    client = cache_client(plain(server), MemoryCache())
    with ThreadPoolExecutor(50) as pool:
        lists = list(pool.map(lambda _: list(stream(client)), range(50)))
    assert server.calls == 1
    assert {tuple(user.age for user in users) for users in lists} == {(lists[0][0].age,) * 2}


def test_followers_are_told_of_a_call_that_costs_nothing(server: OpenAIServer):
    """Of ten threads with one call in flight, one pays; all are heard."""
    server.latency = 0.2
    client = cache_client(plain(server), MemoryCache())
    heard = Heard(client)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: ask(client), range(10)))
    assert len(heard.responses) == 10 and heard.tokens == 15


def test_completions(server: OpenAIServer):
    """create_with_completion gives the SDK's own class, with its usage, on hits as well."""
    client = cache_client(plain(server), MemoryCache())
    options: Any = {"messages": asked(), "response_model": User, "model": "m"}
    for _ in range(2):
        user, completion = client.create_with_completion(**options)
        assert type(completion) is ChatCompletion and completion.usage.total_tokens == 15
        assert user._raw_response is completion
    assert server.calls == 1


# -- what goes wrong -------------------------------------------------------------------------


def test_errors_are_raised_and_not_stored(server: OpenAIServer):
    """An API's error comes as from the plain client, each time; the next answer is stored."""
    client = cache_client(plain(server), MemoryCache())
    kinds = []
    for one in (plain(server), client, client):
        server.faults = [500]
        with pytest.raises(Exception, match="on purpose") as raised:
            ask(one, max_retries=0)
        kinds.append((raised.type, type(raised.value.__cause__)))
    assert len(set(kinds)) == 1
    assert ask(client).age == ask(client).age and server.calls == 4


def test_a_call_that_stays_invalid(server: OpenAIServer):
    """When all attempts were invalid the exception tells them, and nothing is stored."""
    server.invalid = 9
    client = cache_client(plain(server), MemoryCache())
    errors = instructor.core.exceptions if hasattr(instructor, "core") else instructor.exceptions
    with pytest.raises(errors.InstructorRetryException) as raised:
        ask(client, max_retries=2)
    assert raised.value.n_attempts == server.calls >= 2
    server.reset()
    assert ask(client).age == ask(client).age and server.calls == 1


@pytest.mark.parametrize("mode", THOROUGH, ids=lambda mode: mode.name)
def test_reasking(server: OpenAIServer, mode: Any):
    """After an invalid answer the model is asked again, and the good one is stored alone."""
    server.invalid = 1
    client = cache_client(plain(server, mode), MemoryCache())
    messages = asked()
    users = [ask(client, max_retries=2, messages=messages) for _ in range(3)]
    assert server.calls == 2 and len({user.age for user in users}) == 1
    assert messages == asked()


@pytest.mark.parametrize("way", ["truncated", "refused"])
def test_truncated_and_refused_answers(server: OpenAIServer, way: str):
    """What instructor refuses is raised and not stored."""
    setattr(server, way, 1)
    client = cache_client(plain(server), MemoryCache())
    with pytest.raises(Exception):  # noqa: B017
        ask(client, max_retries=0)
    assert ask(client).age == ask(client).age and server.calls == 2


def test_a_backend_that_fails(server: OpenAIServer):
    """With its store down a client is like the plain one."""
    backend = FaultyBackend(MemoryCache())
    backend.failing()
    client = cache_client(plain(server), backend)
    assert ask(client).age != ask(client).age


# -- the client itself -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [TOOLS, instructor.Mode.RESPONSES_TOOLS], ids=str)
def test_the_given_client_stays_as_it_was(server: OpenAIServer, mode: Any):
    """Only the copy is cached; its hooks and arguments are its own, and so are its responses."""
    client = plain(server, mode)
    cached = cache_client(client, MemoryCache())
    heard = Heard(cached)
    cached.kwargs["temperature"] = 0.1
    assert type(cached) is type(client) and not hasattr(client, "cache")
    assert ask(client).age != ask(client).age
    assert not heard.kwargs and not client.kwargs
    if mode is not TOOLS:
        assert cached.responses.client is cached and client.responses.client is client


@pytest.mark.parametrize("found", [None, "client", object(), openai.OpenAI(api_key="x")], ids=str)
def test_no_client_of_instructors(found: Any):
    """What instructor has not made is refused, with the remedy."""
    with pytest.raises(TypeError, match="wanted a client of instructor's"):
        cache_client(found)


def test_a_client_that_was_patched(server: OpenAIServer):
    """What instructor.patch gives is told apart, with what to do instead."""
    with pytest.raises(TypeError, match=r"instructor\.patch.*not patched.*from_openai"):
        cache_client(instructor.patch(sdk(server)))


def test_a_context_of_nothing(server: OpenAIServer):
    """No context, by either of its names, is none."""
    client = cache_client(plain(server), MemoryCache())
    for options in ({}, {"context": None}, {"validation_context": None}):
        ask(client, **options)
    assert server.calls == 1


def test_cached_twice(server: OpenAIServer):
    """A cached client is not cached again."""
    with pytest.raises(ValueError, match="cached already"):
        cache_client(cache_client(plain(server), MemoryCache()), MemoryCache())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ttl": -1}, ValueError),
        ({"ttl": "soon"}, ValueError),
        ({"namespace": ""}, TypeError),
        ({"namespace": 7}, TypeError),
        ({"key": len}, TypeError),
        ({"returns": int}, TypeError),
        ({"raw_response": False}, TypeError),
        ({"ignore": ("_client",)}, ValueError),
        ({"version": source_version}, TypeError),
        ({"ignore": "metadata"}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
    ids=str,
)
def test_wrong_options_are_told_at_once(
    server: OpenAIServer, options: dict[str, Any], error: type[Exception]
):
    """An option that makes no sense is an error when the client is made."""
    with pytest.raises(error, match=next(iter(options))):
        cache_client(plain(server), MemoryCache(), **options)


def test_an_option_that_there_is_not(server: OpenAIServer):
    """It is told by the name of the function that was called, with those that there are."""
    with pytest.raises(TypeError, match=r"found tl=.* cache_client .*ttl=.*stale_ttl"):
        cache_client(plain(server), MemoryCache(), tl=3)


def test_tags_of_what_a_call_does_not_have(server: OpenAIServer):
    """The warning names the arguments that a function of ``tags=`` may take."""
    tags: Any = lambda user_id: f"user:{user_id}"  # noqa: E731
    client = cache_client(plain(server), MemoryCache(), tags=tags)
    with pytest.warns(UnkeyableArgumentWarning, match=r"TypeError.*: messages, model,.* seed$"):
        ask(client, seed=1)


async def test_info_and_clear(server: OpenAIServer, is_async: bool):
    """``client.cache`` counts hits and misses of all methods, and forgets them all."""
    client = cache_client(plain(server, is_async=is_async), MemoryCache())
    for model in (User, User, int):
        await outcome(ask(client, response_model=model))
    assert client.cache.cache_info()[:2] == (1, 2)
    await outcome(client.cache.cache_clear())
    assert client.cache.cache_info()[:4] == (0, 0, 1024, 0)
    await outcome(ask(client))
    assert server.calls == 3


def test_clearing_one_namespace(server: OpenAIServer):
    """Answers of other namespaces stay."""
    memory = MemoryCache()
    a, b = (cache_client(plain(server), memory, namespace=name) for name in ("a", "ab"))
    for client in (a, b):
        ask(client)
    a.cache.cache_clear()
    ask(b)
    assert server.calls == 2
    ask(a)
    assert server.calls == 3


def test_many_response_models(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch):
    """A client remembers how to answer a bounded number of models; what they answered counts on."""
    monkeypatch.setattr("instructor_cache.integrations._functions._MOST", 5)
    client = cache_client(plain(server), MemoryCache())
    models: list[Any] = [create_model(f"Model{n}", age=(int, ...)) for n in range(8)]
    answers = [ask(client, response_model=model) for model in models * 2]
    assert [difference(*pair) for pair in zip(answers[:8], answers[8:], strict=True)] == [None] * 8
    assert len(client.cache._functions.all()) == 5
    assert client.cache.cache_info()[:2] == (8, 8)


def test_the_decorators_options(server: OpenAIServer, tmp_path: Path):
    """A ttl, tiers, tags, cache_if and an observer work as on any cached function."""
    events: list[Event] = []
    tiers = TieredCache(MemoryCache(), DiskCache(tmp_path))
    client = cache_client(
        plain(server),
        tiers,
        ttl=timedelta(hours=1),
        tags=("people", lambda model: f"model:{model}"),
        cache_if=lambda user: user.age != 1,
        observer=events.append,
        prefix="app",
    )
    assert ask(client).age == ask(client).age
    tiers.invalidate_tags("model:other")
    ask(client)
    assert server.calls == 1
    tiers.invalidate_tags("model:m")
    ask(client)
    assert server.calls == 2
    assert [event.kind for event in events if event.kind != "stored"] == [
        "miss",
        "hit",
        "hit",
        "miss",
    ]
    assert all(event.key.startswith("app:instructor.create:") for event in events)


def test_a_ttl_in_a_call(server: OpenAIServer):
    """``cache_ttl=`` counts instead of the client's for what the call stores; 0 stores nothing."""
    now, ages = [0.0], list[int]()
    memory = TieredCache(Tier(MemoryCache(), ttl=50))
    client = cache_client(plain(server), memory, ttl=100, clock=lambda: now[0])
    for ttl, time in [(0, 0), (0, 0), (10, 0), (None, 9), (None, 11), (10, 50), (None, 112)]:
        now[0] = time
        ages.append(ask(client, cache_ttl=ttl).age)
    assert server.calls == 5 and ages[2] == ages[3] and ages[4] == ages[5]


def test_a_wrong_ttl_in_a_call(server: OpenAIServer):
    """It is told, and the answer comes all the same."""
    for ttl in ("soon", [1]):
        client = cache_client(plain(server), MemoryCache())
        with pytest.warns(UnstorableResultWarning, match=re.escape(f"cache_ttl is {ttl!r}")):
            assert isinstance(ask(client, cache_ttl=ttl), User)


def test_answers_outlive_the_process(server: OpenAIServer, tmp_path: Path):
    """Another client over the same folder, with the same key, knows the answer."""
    users = [ask(cache_client(plain(server), DiskCache(tmp_path))) for _ in range(2)]
    assert server.calls == 1 and difference(*users) is None


ANNOTATED: dict[str, Any] = {
    "int": lambda: Annotated[int, Field(gt=0)],
    "list": lambda: list[Annotated[int, Field(gt=0)]],
    "optional": lambda: Optional[Annotated[int, Field(gt=0)]],
    "model": lambda: Annotated[User, Field(description="Somebody")],
}


@pytest.mark.parametrize("kind", ANNOTATED, ids=str)
def test_annotated_types(server: OpenAIServer, kind: str):
    """An annotated type is cached, under another key than the same type annotated otherwise."""
    client = cache_client(plain(server), MemoryCache())
    answers = [ask(client, response_model=ANNOTATED[kind]()) for _ in range(3)]
    assert server.calls == 1 and difference(answers, answers[:1] * 3) is None
    ask(client, response_model=Annotated[int, Field(gt=0, lt=10**9)])
    assert server.calls == 2


class Typed(TypedDict):
    """What instructor makes a class of, another one for each answer."""

    name: str


@pytest.mark.parametrize(
    "model",
    [
        Typed,
        pytest.param(list[Typed], marks=new_only),
        pytest.param(Iterable[Typed], marks=new_only),
    ],
    ids=str,
)
def test_a_typed_dict(server: OpenAIServer, model: Any):
    """It is answered and not cached; the warning, once, says what to write in its place."""
    client = cache_client(plain(server), MemoryCache())
    with pytest.warns(UnstorableResultWarning, match="write it as a model") as told:
        assert ask(client, response_model=model) != ask(client, response_model=model)
    assert server.calls == 2 and len(told) == 1


class Numbers(RootModel[list[int]]):
    """What instructor gives lists for, as long as it is not complete."""


@new_only
def test_snapshots_of_a_root_model(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch):
    """They are what the plain client gives, not cached, and the warning says what would be."""
    monkeypatch.setattr("openai_server._PIECE", 2)
    client = cache_client(plain(server), MemoryCache())
    with pytest.warns(UnstorableResultWarning, match="into a field") as told:
        answers = [
            client.create_partial(messages=asked(), response_model=Numbers, model="m")
            for _ in range(2)
        ]
    assert [type(each).__name__ for each in answers] == ["ListResponse"] * 2
    assert server.calls == 2 and len(told) == 1


def test_remedies_are_those_of_a_client(server: OpenAIServer):
    """A warning about an argument names nothing that cache_client would refuse."""
    client = cache_client(plain(server), MemoryCache())
    with pytest.warns(UnkeyableArgumentWarning, match=r"list for a generator.*ignore=") as told:
        ask(client, messages=(message for message in asked()))
    assert "give key=" not in str(told[0].message)


def test_raw_answers_of_several_tools(server: OpenAIServer):
    """Without a response model PARALLEL_TOOLS gives a completion, which is cached."""
    client = cache_client(plain(server, instructor.Mode.PARALLEL_TOOLS), MemoryCache())
    assert difference(*(ask(client, response_model=None) for _ in range(2))) is None
    assert server.calls == 1


async def test_offline_refuses_what_can_not_be_cached(server: OpenAIServer, is_async: bool):
    """A call that nothing could have recorded is not made in offline mode, and that is said."""
    mode = instructor.Mode.PARALLEL_TOOLS if is_async else TOOLS
    client = cache_client(plain(server, mode, is_async=is_async), MemoryCache())
    options: Any = {"response_model": Iterable[User]} if is_async else {"response_model": None}
    with offline(), pytest.raises(CacheMiss, match=r"can't be cached.*offline mode"):
        await outcome(ask(client, stream=not is_async, **options))
    assert server.calls == 0


async def test_several_tools_at_once(server: OpenAIServer, is_async: bool):
    """PARALLEL_TOOLS gives a generator of models: cached for sync callers only."""
    mode = instructor.Mode.PARALLEL_TOOLS
    client = cache_client(plain(server, mode, is_async=is_async), MemoryCache())
    call = lambda: ask(client, response_model=Iterable[User])  # noqa: E731
    lists = [await outcome(call()) for _ in range(2)]
    assert server.calls == (2 if is_async else 1)
    assert all(type(user) is User for users in lists for user in users) and all(lists)


def test_raw_streams_pass(server: OpenAIServer):
    """A stream without a response model is the SDK's own, each time."""
    client = cache_client(plain(server), MemoryCache())
    for _ in range(2):
        stream = ask(client, response_model=None, stream=True)
        assert isinstance(stream, openai.Stream) and len(list(stream)) > 2
    assert server.calls == 2


def test_an_instructor_without_a_cache(monkeypatch: pytest.MonkeyPatch):
    """`for_instructor` says what to do where instructor has no cache of its own."""
    from instructor_cache.integrations import _native

    _native._native_class.cache_clear()
    monkeypatch.setitem(sys.modules, "instructor.cache", None)
    with pytest.raises(ImportError, match="use cache_client"):
        MemoryCache().for_instructor(namespace="team")
