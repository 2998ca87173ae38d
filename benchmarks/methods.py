"""Which calls of an instructor client are answered from a cache: each method in each mode.

Prints how many requests three equal calls make, for `cache_client` and for instructor's own cache,
and whether two tenants with one prompt and one store get answers of their own.

    python benchmarks/methods.py
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Optional, Union

import instructor
import openai
from pydantic import BaseModel

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from openai_server import OpenAIServer  # noqa: E402

from instructor_cache import MemoryCache, cache_client  # noqa: E402
from instructor_cache.codecs._compare import difference  # noqa: E402

MODES = [
    getattr(instructor.Mode, name)
    for name in ("TOOLS", "JSON", "MD_JSON", "JSON_SCHEMA", "RESPONSES_TOOLS")
]


def asked() -> Any:
    """A question; a new one each time, for instructor 1.9 writes into it."""
    return [{"role": "user", "content": "Who is Ada?"}]


class User(BaseModel):
    name: str
    age: int


class Team(BaseModel):
    title: str
    users: list[User]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


Call = Callable[[Any], Any]


def _create(response_model: Any) -> Call:
    return lambda client: client.create(response_model=response_model, messages=asked(), model="m")


def _method(name: str, response_model: Any = User) -> Call:
    def call(client: Any) -> Any:
        for part in name.split("."):
            client = getattr(client, part)
        return client(messages=asked(), response_model=response_model, model="m")

    return call


def _response(name: str) -> Call:
    def call(client: Any) -> Any:
        return getattr(client.responses, name)(input="Ada?", response_model=User, model="m")

    return call


PARTIAL: Any = instructor.Partial[User]
CALLS: dict[str, Call] = {
    "`create`": _create(User),
    "`create` of `list[M]`": _create(list[User]),
    "`create` of `Iterable[M]`": _create(Iterable[User]),
    "`create` of `Optional[M]`": _create(Optional[User]),  # noqa: UP045
    "`create` of `Union[A, B]`": _create(Union[User, Cat]),
    "`create` of `Partial[M]`": _create(PARTIAL),
    "`create` of `int`": _create(int),
    "`create` of `str`": _create(str),
    "`create` of `Literal`": _create(Literal["one", "two"]),
    "`create` of `list[int]`": _create(list[int]),
    "`create` of `None`": _create(None),
    "`chat.completions.create`": _method("chat.completions.create", Team),
    "`messages.create`": _method("messages.create", Cat),
    "`create_with_completion`": _method("create_with_completion", Team),
    "`create_partial`": _method("create_partial", Team),
    "`create_iterable`": _method("create_iterable"),
    "`responses.create`": _response("create"),
    "`responses.create_with_completion`": _response("create_with_completion"),
    "`responses.create_partial`": _response("create_partial"),
    "`responses.create_iterable`": _response("create_iterable"),
}


def client_of(
    server: OpenAIServer, mode: Any, *, is_async: bool, key: str = "k", **options: Any
) -> Any:
    """An instructor client of the server."""
    kind = openai.AsyncOpenAI if is_async else openai.OpenAI
    http = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
    # Without certificates, which take longer to load than all the rest.
    plain = kind(base_url=server.url, api_key=key, max_retries=0, http_client=http(verify=False))
    return instructor.from_openai(plain, mode=mode, **options)


async def outcome(answer: Any) -> Any:
    """What a call gives in the end: awaited, and a stream as the list of its items."""
    while isinstance(answer, Awaitable):
        answer = await answer
    if hasattr(answer, "__anext__"):
        return [item async for item in answer]
    return list(answer) if inspect.isgenerator(answer) or hasattr(answer, "__next__") else answer


def fits(name: str, client: Any) -> bool:
    """Whether a client has the method: the Responses API has a mode of its own."""
    if not name.startswith("`responses"):
        return True
    is_response = client.mode is instructor.Mode.RESPONSES_TOOLS
    return is_response and hasattr(client.responses, name.strip("`").partition(".")[2])


async def thrice(server: OpenAIServer, client: Any, call: Call) -> tuple[int, list[Any]]:
    """How many requests three equal calls make, and what they give."""
    before = server.calls
    answers = [await outcome(call(client)) for _ in range(3)]
    return server.calls - before, answers


def ours(
    server: OpenAIServer, mode: Any, *, is_async: bool, key: str = "k", backend: Any = None
) -> Any:
    """A client cached by this library."""
    plain = client_of(server, mode, is_async=is_async, key=key)
    return cache_client(plain, MemoryCache() if backend is None else backend)


def native(
    server: OpenAIServer, mode: Any, *, is_async: bool, key: str = "k", backend: Any = None
) -> Any:
    """A client with instructor's own cache."""
    from instructor.cache import AutoCache

    cache = AutoCache() if backend is None else backend
    options = {"cache": cache, "cache_namespace": "app"}
    return client_of(server, mode, is_async=is_async, key=key, **options)


async def cell(server: OpenAIServer, client: Any, call: Call, differ: Callable[..., Any]) -> str:
    try:
        calls, answers = await thrice(server, client, call)
    except Exception as error:
        return f"crash: {type(error).__name__}"
    same = all(differ(answer, answers[0]) is None for answer in answers)
    return f"{calls}" if same or calls == 3 else f"{calls}, differing"


def _by_content(left: Any, right: Any) -> str | None:
    """instructor makes a class for each answer: only what is in them can be the same."""
    return None if _content(left) == _content(right) else "differing"


def _content(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    return value if isinstance(value, (int, str)) else type(value).__name__


async def tenants(server: OpenAIServer, make: Callable[..., Any], backend: Any, **at: Any) -> str:
    """Whether two tenants, each with a key of its own, get answers of their own."""
    answers = [
        await outcome(CALLS["`create`"](make(server, key=key, backend=backend, **at)))
        for key in ("one", "two")
    ]
    return "apart" if answers[0].age != answers[1].age else "**mixed**"


async def table(server: OpenAIServer, *, is_async: bool) -> list[list[str]]:
    """The rows: a call, then for each mode ours and instructor's."""
    from instructor.cache import AutoCache

    rows = []
    for name, call in CALLS.items():
        row = [name]
        for mode in MODES:
            at = {"mode": mode, "is_async": is_async}
            client = ours(server, **at)
            if not fits(name, client):
                row.append("")
                continue
            mine = await cell(server, client, call, difference)
            row.append(f"{mine} · {await cell(server, native(server, **at), call, _by_content)}")
        rows.append(row)
    row = ["two tenants, one store"]
    for mode in MODES:
        at = {"mode": mode, "is_async": is_async}
        mine = await tenants(server, ours, MemoryCache(), **at)
        row.append(f"{mine} · {await tenants(server, native, AutoCache(), **at)}")
    return [*rows, row]


def main() -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    version = instructor.__version__
    print(f"Requests for three equal calls: cache_client · instructor {version}'s own cache\n")
    tables = []
    for is_async in (False, True):
        with OpenAIServer() as server:
            tables.append(asyncio.run(table(server, is_async=is_async)))
    if tables[0] == tables[1]:
        show("sync and async", tables[0])
    else:
        show("sync", tables[0])
        show("async", tables[1])


def show(title: str, rows: list[list[str]]) -> None:
    head = [title, *(mode.name for mode in MODES)]
    for row in [head, ["---"] * len(head), *rows]:
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    main()
