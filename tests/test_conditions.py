"""Ready conditions for cache_if: cut off, refused and impossibly fast answers are not kept."""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import instructor
import openai
import pytest
from conftest import Colour
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai_server import OpenAIServer
from pydantic import BaseModel, PrivateAttr, RootModel, TypeAdapter

from instructor_cache import (
    CacheMiss,
    InstructorCacheWarning,
    MemoryCache,
    RawCompletion,
    UnstorableResultWarning,
    cache_client,
    instructor_cache,
    min_seconds,
    not_refused,
    not_truncated,
    offline,
)
from instructor_cache._heard import heard


class User(BaseModel):
    name: str


class Order(BaseModel):
    """A user's own model, whose fields are called as a provider's are."""

    status: str = "incomplete"
    stop_reason: str = "max_tokens"
    choices: list[str] = []


def completion(finish_reason: str = "stop", refusal: str | None = None) -> ChatCompletion:
    message = {"role": "assistant", "content": '{"name":"ada"}', "refusal": refusal}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return ChatCompletion.model_validate(
        {"id": "1", "created": 1, "model": "m", "object": "chat.completion", "choices": [choice]}
    )


def chunk(finish_reason: str | None, refusal: str | None = None) -> ChatCompletionChunk:
    choice = {"index": 0, "finish_reason": finish_reason, "delta": {"refusal": refusal}}
    kind = "chat.completion.chunk"
    return ChatCompletionChunk.model_validate(
        {"id": "1", "created": 1, "model": "m", "object": kind, "choices": [choice]}
    )


def response(status: str, reason: str | None = None, part: Any = None) -> Response:
    content = [part or {"type": "output_text", "text": "{}", "annotations": []}]
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    return Response.model_validate(
        {
            "id": "1",
            "created_at": 1,
            "model": "m",
            "object": "response",
            "status": status,
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "incomplete_details": reason and {"reason": reason},
            "output": [{**message, "content": content}],
        }
    )


def claude(stop_reason: str) -> Any:
    """As Anthropic's SDK gives it, of a class of that name in a module of that package."""
    cls = type("Message", (SimpleNamespace,), {"__module__": "anthropic.types.message"})
    return cls(stop_reason=stop_reason, content=[])


def gemini(finish_reason: str) -> Any:
    """As Google's SDK gives it: the reason is a member of an enum."""
    reason = SimpleNamespace(name=finish_reason, value=finish_reason)
    cls = type("GenerateContentResponse", (SimpleNamespace,), {"__module__": "google.genai.types"})
    return cls(candidates=[SimpleNamespace(finish_reason=reason)], prompt_feedback=None)


class AIMessage(BaseModel):
    """As LangChain gives it, whatever the provider."""

    content: Any = "ada"
    additional_kwargs: dict[str, Any] = {}
    response_metadata: dict[str, Any] = {}


class ModelResponse(BaseModel):
    """As Pydantic AI gives it."""

    finish_reason: str


AIMessage.__module__, ModelResponse.__module__ = (
    "langchain_core.messages.ai",
    "pydantic_ai.messages",
)


def langchain(**told: Any) -> AIMessage:
    return AIMessage(response_metadata=told)


def attached(raw: Any) -> User:
    """A model as instructor gives it."""
    user = User(name="ada")
    object.__setattr__(user, "_raw_response", raw)
    return user


class ListResponse(list[Any]):
    """A list as instructor gives it."""

    _raw_response: Any = None


def listed(raw: Any) -> Any:
    users = ListResponse([User(name="ada")])
    users._raw_response = raw
    return users


WHOLE = [
    completion(),
    response("completed"),
    claude("end_turn"),
    gemini("STOP"),
    completion("tool_calls"),
    langchain(finish_reason="stop"),
    AIMessage(additional_kwargs={"refusal": None}),
    ModelResponse(finish_reason="tool_call"),
]
TRUNCATED = {
    "chat": completion("length"),
    "responses": response("incomplete", "max_output_tokens"),
    "anthropic": claude("max_tokens"),
    "gemini": gemini("MAX_TOKENS"),
    "langchain": langchain(finish_reason="length"),
    "langchain anthropic": langchain(stop_reason="max_tokens"),
    "langchain ollama": langchain(done_reason="length"),
    "langchain responses": langchain(status="incomplete"),
    "pydantic ai": ModelResponse(finish_reason="length"),
    "stored": RawCompletion({"choices": [{"finish_reason": "length"}]}),
}
REFUSED = {
    "chat": completion(refusal="I can't help with that."),
    "filter": completion("content_filter"),
    "responses": response("completed", part={"type": "refusal", "refusal": "No."}),
    "responses filter": response("incomplete", "content_filter"),
    "anthropic": claude("refusal"),
    "gemini": gemini("SAFETY"),
    "langchain": AIMessage(additional_kwargs={"refusal": "No."}),
    "langchain filter": langchain(finish_reason="content_filter"),
    "langchain content": AIMessage(content=[{"type": "refusal", "refusal": "No."}]),
    "pydantic ai": ModelResponse(finish_reason="content_filter"),
}
SHAPES = {
    "itself": lambda raw: raw,
    "attached": attached,
    "pair": lambda raw: (User(name="ada"), raw),
    "list": lambda raw: [attached(completion()), attached(raw)],
    "instructor's list": listed,
    "dict": lambda raw: {"ada": attached(raw)},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TRUNCATED)
def test_truncated_answers_are_seen(kind: str, shape: str):
    """An answer that was cut off is seen in every shape that a result has."""
    assert not not_truncated(SHAPES[shape](TRUNCATED[kind]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_are_seen(kind: str, shape: str):
    """A refusal, the model's or a filter's, is seen in every shape that a result has."""
    assert not not_refused(SHAPES[shape](REFUSED[kind]))


@pytest.mark.parametrize("shape", SHAPES)
def test_good_answers_are_kept(shape: str):
    """Whole answers hold; so do those that are cut off but not refused, and the other way."""
    for raw in WHOLE:
        result = SHAPES[shape](raw)
        assert not_truncated(result) and not_refused(result)
    assert not_refused(SHAPES[shape](TRUNCATED["chat"]))
    assert not_truncated(SHAPES[shape](REFUSED["chat"]))


@pytest.mark.parametrize(
    "result",
    [None, 1, "length", User(name="ada"), Order(), [Order()], (), {"finish_reason": "length"}],
)
def test_without_a_raw_answer_they_hold(result: Any):
    """A user's own model is no completion, whatever its fields are called."""
    assert not_truncated(result) and not_refused(result)


def test_a_stream_of_chunks_is_read_to_its_end():
    """The last chunk of a raw stream says how it ended, and any may hold a refusal."""
    assert not_truncated([chunk(None), chunk("stop")]) and not_refused([chunk("stop")])
    assert not not_truncated([chunk(None), chunk("length")])
    assert not not_refused([chunk(None, "I"), chunk("stop")])


# -- streams of the Responses API ------------------------------------------------------------------

REFUSAL = {"type": "refusal", "refusal": "No."}
PLACE = {"item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": 1}


def message(part: Any) -> dict[str, Any]:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def event(kind: str, **fields: Any) -> ResponseStreamEvent:
    """An event as the SDK reads it."""
    adapter: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    return adapter.validate_python({"type": kind, **PLACE, **fields})


def telling(part: Any) -> dict[str, ResponseStreamEvent]:
    """Events of which each holds a part of an answer."""
    done = response("completed", part=part).model_dump()
    return {
        "completed": event("response.completed", response=done),
        "item": event("response.output_item.done", item=message(part)),
        "part": event("response.content_part.done", part=part),
    }


EVENTS = {
    **telling(REFUSAL),
    "delta": event("response.refusal.delta", delta="N"),
    "done": event("response.refusal.done", refusal="No."),
    "empty": event("response.refusal.delta", delta=""),
    "filter": event(
        "response.incomplete", response=response("incomplete", "content_filter").model_dump()
    ),
}
TEXT = {"type": "output_text", "text": "a refusal", "annotations": []}


@pytest.mark.parametrize("kind", EVENTS)
def test_refusals_are_seen_in_a_stream_of_events(kind: str):
    """Whichever event tells of a refusal, alone among others, the stream is not kept."""
    around = event("response.output_text.delta", delta="refusal", logprobs=[])
    assert not not_refused([around, EVENTS[kind], around])
    assert not not_refused(RawCompletion(EVENTS[kind].model_dump()))
    assert not_refused([around, *telling(TEXT).values()])


def test_parts_of_an_answer_are_judged():
    """A choice, a message or an item of the output is judged as the whole answer is."""
    choice = completion("length", "No.").choices[0]
    assert not not_refused(choice) and not not_truncated(choice)
    assert not not_refused(choice.message)
    assert not not_refused(response("completed", part=REFUSAL).output)
    assert not_refused(response("completed", part=TEXT).output)


# -- inside a user's own results -------------------------------------------------------------------


class Extraction(BaseModel, arbitrary_types_allowed=True, extra="allow"):
    users: list[User] = []
    completion: ChatCompletion | None = None
    inner: Any = None
    _kept: Any = PrivateAttr(None)


class Declared(BaseModel):
    _raw_response: Any = PrivateAttr(None)


@dataclass
class Plain:
    completion: Any
    inner: Any = None


@dataclass(slots=True)
class Slotted:
    completion: Any


def private(raw: Any, declared: bool = False) -> Any:
    model: Any = Declared() if declared else Extraction()
    setattr(model, "_raw_response" if declared else "_kept", raw)
    return model


def nested(raw: Any, depth: int) -> Any:
    """A completion in so many lists, tuples and dicts in one another."""
    for n in range(depth):
        raw = [[raw], (raw,), {"a": raw}][n % 3]
    return raw


PLACES: dict[str, Callable[[Any], Any]] = {
    "field": lambda raw: Extraction(completion=raw),
    "fields in one another": lambda raw: Extraction(inner=Extraction(inner=Plain(raw))),
    "extra field": lambda raw: Extraction(more=raw),  # type: ignore[call-arg]
    "private field": private,
    "declared attachment": partial(private, declared=True),
    "dataclass": Plain,
    "dataclass with slots": Slotted,
    "attached to a field": lambda raw: Plain(Extraction(users=[attached(raw)])),
    "root": lambda raw: RootModel[Any]([raw]),
    "set": lambda raw: {Attached(raw)},
    "six containers": lambda raw: nested(raw, 6),
}


class Attached:
    """A hashable thing with an answer attached."""

    def __init__(self, raw: Any) -> None:
        self._raw_response = raw


@pytest.mark.parametrize("place", PLACES)
def test_answers_are_seen_inside_of_results(place: str):
    """An answer in a field, or in many containers, is judged wherever it lies."""
    put = PLACES[place]
    assert not not_refused(put(REFUSED["chat"])) and not not_truncated(put(TRUNCATED["chat"]))
    assert not_refused(put(completion())) and not_truncated(put(completion()))


def test_looking_ends(monkeypatch: pytest.MonkeyPatch):
    """What holds itself, is deep or is large is looked through once, and in bounds."""
    loop = Plain(completion("length"), inner=[])
    loop.inner.append([loop, loop.inner])
    assert not not_truncated(loop) and not_refused(loop)
    wide: Any = User(name="ada")
    for _ in range(100):
        wide = [wide] * 100
    assert not_refused(wide)
    assert not_refused(nested(completion("content_filter"), 1000))
    monkeypatch.setattr("instructor_cache._parts._MOST", 100)
    stream = [chunk(None)] * 300
    assert not_refused(stream) and not not_refused([*stream, chunk("content_filter")])


class Touchy(BaseModel):
    """A model whose own code must not run."""

    name: str = "ada"

    @property
    def completion(self) -> Any:
        raise AssertionError("a property was read")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


class TouchyList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("was iterated over")


class TouchyDict(dict[str, Any]):
    get = values = keys = __getattr__ = __getitem__ = TouchyList.__iter__  # type: ignore[assignment]


def test_no_code_of_the_users_is_run():
    """Properties and methods of a result are left alone, and what lies under them is seen."""
    raw = completion("length")
    for quiet in (Touchy(), TouchyList([Touchy()]), TouchyDict(a=Touchy())):
        assert not_truncated(quiet) and not_refused(quiet)
    assert not not_truncated(TouchyList([raw])) and not not_truncated(TouchyDict(a=raw))


# -- as cache_if -----------------------------------------------------------------------------------


class Timer:
    """A function that answers at once, or takes its time; counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.seconds, self._now = 0, 0.0, 0.0
        for module in ("_maker", "_streams", "_live", "_live_async"):
            monkeypatch.setattr(f"instructor_cache.{module}.perf_counter", lambda: self._now)

    def extract(self, text: str) -> User:
        self.calls += 1
        self._now += self.seconds
        return User(name=text)


async def test_what_was_too_fast_is_not_kept(colour: Colour, monkeypatch: pytest.MonkeyPatch):
    """With min_seconds(0.5) an answer is kept if its call took as long."""
    timer = Timer(monkeypatch)
    cached = instructor_cache(MemoryCache(), cache_if=min_seconds(0.5))
    extract = cached(colour.function(timer.extract))
    for seconds, calls in ((0.25, 1), (0.5, 2), (0.0, 2)):
        timer.seconds = seconds
        await colour.call(extract, "ada")
        assert timer.calls == calls


@pytest.mark.parametrize("returns", [User, Iterable[User]])
async def test_the_seconds_before_a_stream_that_was_not_promised_count(
    returns: Any, colour: Colour, monkeypatch: pytest.MonkeyPatch
):
    """instructor asks when it is called: its stream took as long as that, and as its items."""
    timer, seconds = Timer(monkeypatch), list[float]()

    def ask(text: str) -> Any:
        return iter([timer.extract(text), timer.extract(text)])

    cached = instructor_cache(
        MemoryCache(),
        returns=returns,
        cache_if=min_seconds(0.5),
        observer=lambda event: seconds.extend([event.seconds] if event.kind == "stored" else []),
    )
    extract, timer.seconds = cached(colour.function(ask)), 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InstructorCacheWarning)
        await items_of(await colour.call(extract, "ada"))
    assert timer.calls == 2 and seconds == [0.5]


async def test_all_of_several_conditions_have_to_hold(colour: Colour):
    """One that does not hold is enough, of any kind, and a tuple may be empty."""
    calls: list[str] = []

    def extract(text: str) -> User:
        calls.append(text)
        return attached(completion("length" if text == "long" else "stop"))

    conditions = (not_truncated, not_refused, lambda user: user.name == "ada", min_seconds(0))
    for cache_if, expected in ((conditions, 3), ([*conditions, min_seconds(60)], 4), ((), 2)):
        calls.clear()
        cached = instructor_cache(MemoryCache(), cache_if=cache_if)(colour.function(extract))
        for text in ("long", "long", "short", "short"):
            await colour.call(cached, text)
        assert len(calls) == expected


async def test_a_condition_that_has_to_be_awaited_is_a_failure(colour: Colour):
    """It says neither yes nor no, so nothing is kept; there is no other warning of Python's."""
    failures: list[BaseException | None] = []

    async def never(result: Any) -> bool:
        return False

    def extract(text: str) -> User:
        return User(name=text)

    cached = instructor_cache(
        MemoryCache(),
        cache_if=lambda result: never(result),
        observer=lambda event: failures.extend([event.error] if event.kind == "failure" else []),
    )(colour.function(extract))
    for _ in range(2):
        await colour.call(cached, "ada")
    assert cached.cache_info().misses == len(failures) == 2
    assert "give a plain callable of the result" in str(failures[0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (min_seconds, r"say how many: min_seconds\(0.05\)"),
        ("not_truncated", "must be a callable of the result"),
        ((not_truncated, None), "must be a callable of the result"),
        (lambda: True, "called with the result: too many"),
        (lambda result, more: True, "called with the result: missing"),
    ],
)
def test_wrong_conditions_are_refused(wrong: Any, said: str):
    """What can't be asked is a TypeError at decoration."""
    with pytest.raises(TypeError, match=said):
        instructor_cache(MemoryCache(), cache_if=wrong)


@pytest.mark.parametrize("least", [-1, float("nan"), float("inf"), "1", True, None])
def test_wrong_seconds_are_refused(least: Any):
    """What are no seconds is a ValueError that shows an example."""
    with pytest.raises(ValueError, match=r"such as min_seconds\(0.05\)"):
        min_seconds(least)
    assert repr(min_seconds(0.05)) == "min_seconds(0.05)"


# -- with the real clients, over HTTP --------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """Answers a chat completion that ends as the prompt says: "length", "content_filter"..."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ending = request["messages"][-1]["content"]
        self.server.calls += 1  # type: ignore[attr-defined]
        raw = completion(ending)
        if tools := request.get("tools"):
            function = {"name": tools[0]["function"]["name"], "arguments": '{"name":"ada"}'}
            call = {"id": "c", "type": "function", "function": function}
            message = {"role": "assistant", "tool_calls": [call]}
            data = raw.model_dump()
            data["choices"][0]["message"] = message
            raw = ChatCompletion.model_validate(data)
        body = raw.model_dump_json().encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.calls = 0  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_instructors_answers_are_judged(server: Any):
    """What instructor got in several ways: refusals aren't kept, whole answers are."""
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as plain:
        client = instructor.from_openai(plain)
        cached = instructor_cache(MemoryCache(), cache_if=(not_truncated, not_refused))

        def ask(content: str) -> dict[str, Any]:
            return {"model": "m", "messages": [{"role": "user", "content": content}]}

        @cached
        def model(text: str) -> User:
            return client.chat.completions.create(response_model=User, **ask(text))

        @cached
        def pair(text: str) -> tuple[User, ChatCompletion]:
            return client.chat.completions.create_with_completion(response_model=User, **ask(text))

        @instructor_cache(MemoryCache(), returns=ChatCompletion, cache_if=not_truncated)
        def raw(text: str) -> Any:
            return plain.chat.completions.create(**ask(text))

        def calls(function: Any, text: str) -> int:
            server.calls = 0
            for _ in range(3):
                function(text)
            return int(server.calls)

        assert [calls(model, "stop"), calls(model, "content_filter")] == [1, 3]
        assert [calls(pair, "stop"), calls(pair, "content_filter")] == [1, 3]
        assert [calls(raw, "stop"), calls(raw, "length")] == [1, 3]


def test_answers_without_their_raw_form_are_judged_too(server: Any):
    """With raw_response=False the condition still sees what instructor attached."""
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as plain:
        client = instructor.from_openai(plain)

        @instructor_cache(MemoryCache(), raw_response=False, cache_if=not_refused)
        def model(text: str) -> User:
            messages: Any = [{"role": "user", "content": text}]
            return client.chat.completions.create(response_model=User, model="m", messages=messages)

        for _ in range(2):
            model("content_filter")
        assert server.calls == 2


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON])
@pytest.mark.parametrize("method", ["create_partial", "create_iterable"])
@pytest.mark.parametrize("way", ["truncated", "refused"])
async def test_streams_of_a_client_are_judged(
    way: str, method: str, mode: instructor.Mode, colour: Colour
):
    """A stream that was cut off or refused is asked for anew, a whole one is kept."""
    with OpenAIServer() as server, warnings.catch_warnings():
        warnings.simplefilter("error", UnstorableResultWarning)
        client = cache_client(
            connected(server, colour, mode), MemoryCache(), cache_if=(not_truncated, not_refused)
        )
        setattr(server, way, 1)
        for calls in (1, 2, 2):
            await items_of(getattr(client, method)(**QUESTION))
            assert server.calls == calls


@pytest.mark.parametrize("method", ["create_partial", "create_iterable"])
async def test_streams_that_tell_nothing_of_their_end_are_not_kept(method: str, colour: Colour):
    """By the decorator alone nobody hears how instructor's stream ended, which a warning says."""
    returns = AsyncIterator[User] if colour.is_async else Iterator[User]
    with OpenAIServer() as server:
        client = connected(server, colour)

        @instructor_cache(MemoryCache(), returns=returns, cache_if=not_refused)
        def ask() -> Any:
            return getattr(client, method)(**QUESTION)

        with pytest.warns(UnstorableResultWarning, match="ask by a client of cache_client"):
            await items_of(ask())
        await items_of(ask())
        assert server.calls == 2


def test_a_stream_that_was_read_to_its_end_is_not_judged_by_what_is_left_of_it():
    """A list that instructor gathered from a stream has that, used up, for its raw answer."""
    with pytest.warns(UnstorableResultWarning, match="tells nothing of how it ended"):
        instructor_cache(MemoryCache(), returns=list[User], cache_if=not_truncated)(
            lambda: listed(iter(()))
        )()


def test_a_list_is_given_without_the_stream_it_was_gathered_from():
    """The first time as from a hit: a stream that is used up is no answer, nor is its repr."""
    with OpenAIServer() as server:
        client = connected(server, Colour("sync"))
        ask = instructor_cache(MemoryCache(), returns=Iterable[User])(
            lambda: client.create_partial(**QUESTION)
        )
        first, hit = ask(), ask()
        assert getattr(first, "_raw_response", None) is getattr(hit, "_raw_response", None) is None
        assert list(first) == list(hit) and server.calls == 1


async def test_an_answer_that_was_asked_for_anew_is_judged_by_the_last(colour: Colour):
    """What instructor itself did not take for an answer does not count, what it took does."""
    with OpenAIServer(invalid=1) as server:
        client = connected(server, colour)
        judged: list[Any] = []
        cached = cache_client(client, MemoryCache(), cache_if=lambda _: judged.extend(heard()))
        await colour.call(cached.create, **QUESTION, max_retries=2)
        assert server.calls == 2 and len(judged) == 1


@pytest.mark.parametrize("inner", [None, not_truncated])
@pytest.mark.parametrize("returns", ["model", "items", "derived"])
async def test_a_function_around_a_client_hears_what_the_client_does(
    returns: str, inner: Any, colour: Colour
):
    """What is made of a cut off stream is not kept, whoever judges the stream itself."""
    with OpenAIServer(truncated=1) as server, warnings.catch_warnings():
        warnings.simplefilter("error", UnstorableResultWarning)
        warnings.filterwarnings("ignore", ".*gave a stream")
        client = cache_client(connected(server, colour), MemoryCache(), ttl=0, cache_if=inner)
        items = AsyncIterator[User] if colour.is_async else Iterator[User]
        kept = instructor_cache(
            MemoryCache(), returns=items if returns == "items" else User, cache_if=not_truncated
        )

        @kept
        def ask() -> Any:
            answer = client.create_partial(**QUESTION)
            return list(answer)[-1] if returns == "derived" else answer

        @kept
        async def aask() -> Any:
            answer = client.create_partial(**QUESTION)
            return [item async for item in answer][-1] if returns == "derived" else answer

        for calls in (1, 2, 2):
            answer: Any = await colour.call(aask if colour.is_async else ask)
            if not isinstance(answer, BaseModel):
                await items_of(answer)
            assert server.calls == calls


def test_a_refresh_behind_a_hit_is_not_heard_by_who_hit():
    """The answer it was given is the whole one from before."""
    now, ended = [0.0], Event()
    with OpenAIServer() as server:
        client = cache_client(
            connected(server, Colour("sync")),
            MemoryCache(clock=lambda: now[0]),
            ttl=10,
            refresh_ahead=0.5,
            clock=lambda: now[0],
            observer=lambda event: ended.set() if event.kind == "refreshed" else None,
        )

        @instructor_cache(MemoryCache(), cache_if=not_truncated)
        def ask(text: str) -> User:
            answer = list(client.create_partial(**QUESTION))[-1]
            assert text == "first" or ended.wait(5)
            return User(name=answer.name)

        ask("first")
        now[0], server.truncated = 6, 1
        ask("second")
        assert server.calls == 2 and ask.cache_contains("second")


def connected(
    server: OpenAIServer, colour: Colour, mode: instructor.Mode = instructor.Mode.TOOLS
) -> Any:
    sdk = openai.AsyncOpenAI if colour.is_async else openai.OpenAI
    return instructor.from_openai(sdk(base_url=server.url, api_key="none"), mode=mode)


QUESTION: Any = {
    "response_model": User,
    "model": "m",
    "messages": [{"role": "user", "content": "Ada"}],
}


async def items_of(stream: Any) -> list[Any]:
    return [item async for item in stream] if hasattr(stream, "__anext__") else list(stream)


def test_offline_mode_needs_no_provider(server: Any):
    """What instructor answered once is given with its raw answer when the provider is gone."""
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as plain:
        client = instructor.from_openai(plain)

        @instructor_cache(MemoryCache())
        def ask(text: str) -> User:
            messages: Any = [{"role": "user", "content": text}]
            return client.chat.completions.create(response_model=User, model="m", messages=messages)

        first = ask("stop")
        server.shutdown()
        server.server_close()
        with offline():
            again = ask("stop")
            assert again == first and again._raw_response == first._raw_response  # type: ignore[attr-defined]
            with pytest.raises(CacheMiss, match=r"- 'stop'\n.*\+ 'stopp'"):
                ask("stopp")
    assert server.calls == 1
