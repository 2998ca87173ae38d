"""A hit equals the first answer: every awkward shape, through the decorator and every backend."""

from __future__ import annotations

import asyncio
import enum
import gc
import logging
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import diskcache
import instructor
import openai
import pytest
from conftest import Colour
from corpus import SHAPES
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field, SecretStr, create_model, field_validator
from sameness import same

from instructor_cache import (
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    SafeDisk,
    UnstorableResultWarning,
    instructor_cache,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from local_llm import LocalLLM

# diskcache leaves the connections of asyncio's worker threads to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

REFUSED = {
    *("secret_str", "secret_bytes", "secret_date"),  # not without encryption
    *("generator", "function", "stranger_in_any", "factory_of_the_user"),
    # Any loaded model may be in it, and other tests have loaded several of one name.
    "field_of_base_model",
}


@pytest.fixture(params=["memory", "disk", "diskcache", "redis"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Any]:
    """Each backend in turn."""
    made = {
        "memory": lambda: MemoryCache(None),
        "disk": lambda: DiskCache(tmp_path),
        "diskcache": lambda: diskcache.Cache(tmp_path, disk=SafeDisk),
        "redis": lambda: RedisCache(redis_url),
    }[request.param]()
    yield made
    if hasattr(made, "close"):
        made.close()
    gc.collect()  # here, where what diskcache left open is expected


def answering(value: Any, annotation: Any, backend: Any, prefix: str, **options: Any) -> Any:
    """A cached function that gives *value* once, and fails if it is called again."""
    answers = iter([value])

    def answer() -> Any:
        return next(answers, "called again")

    return instructor_cache(backend, returns=annotation, prefix=prefix, **options)(answer)


@pytest.mark.parametrize(
    "backend",
    [
        "memory",
        "disk",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("diskcache", "redis")),
    ],
    indirect=True,
)
def test_every_shape_comes_back_or_is_refused(backend: Any, prefix: str):
    """Miss and hit are the same to the last bit for all shapes but those that are refused."""
    refused: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for shape in SHAPES:
            for n, value in enumerate(shape.values):
                f = answering(value, shape.annotation, backend, f"{prefix}{shape.name}{n}")
                miss = f()
                assert same(miss, value) or shape.name == "generator", shape.name
                hit = f()
                if isinstance(hit, str) and hit == "called again":
                    refused.add(shape.name)
                else:
                    assert same(hit, miss), shape.name
    assert refused <= REFUSED
    assert len(SHAPES) >= 150
    assert 1 - len(refused) / len(SHAPES) >= 0.94


# -- no user code, told reasons ----------------------------------------------------------------


async def test_validators_do_not_run_on_a_hit(colour: Colour):
    """A validator that would bill again runs for the miss only."""
    bills: list[str] = []

    class Checked(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def bill(cls, name: str) -> str:
            bills.append(name)
            return name.upper()

    def body(text: str) -> Checked:
        return Checked(name=text)

    f = instructor_cache(MemoryCache())(colour.function(body))
    for _ in range(3):
        assert (await colour.call(f, "ada")).name == "ADA"
    assert bills == ["ada"]


def test_a_secret_is_returned_but_not_stored():
    """Warning and event name the field and what would help; the secret is in neither."""

    class Account(BaseModel):
        owner: str
        token: SecretStr

    events: list[Event] = []
    memory = MemoryCache()

    @instructor_cache(memory, observer=events.append)
    def extract(text: str) -> Account:
        return Account(owner=text, token=SecretStr("hunter2"))

    with pytest.warns(UnstorableResultWarning, match=r"token.*encrypted") as warned:
        assert [extract("ada").token.get_secret_value() for _ in range(3)] == ["hunter2"] * 3
    assert len(warned) == 1
    assert len(memory) == 0
    told = [str(warned[0].message), *(str(event.error) for event in events)]
    assert not any("hunter2" in text for text in told)
    assert [event.kind for event in events] == ["miss", "unstorable"] * 3


def test_troublesome_shapes_are_told_at_decoration(caplog: pytest.LogCaptureFixture):
    """A field that can't always be stored is named once, at INFO, with what to do."""
    caplog.set_level(logging.INFO, "instructor_cache")

    class Loose(BaseModel):
        thing: Any
        name: str

    @instructor_cache(MemoryCache())
    def extract(text: str) -> Loose:
        return Loose(thing=1, name=text)

    extract("a"), extract("a")
    told = [record.getMessage() for record in caplog.records if "Loose.thing" in record.message]
    assert len(told) == 1
    assert "say what it holds" in told[0]


# -- the real instructor -------------------------------------------------------------------------


class UserDetail(BaseModel):
    name: str
    age: int


ASK: list[Any] = [{"role": "user", "content": "Ada is 36 years old"}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LocalLLM]:
    with LocalLLM(delay=0) as server:
        yield server


def asker(colour: Colour, llm: LocalLLM, method: str) -> Callable[..., Any]:
    """A function of the wanted colour that asks through instructor's client."""
    if not colour.is_async:
        client = instructor.from_openai(openai.OpenAI(base_url=llm.url, api_key="x"))

        def ask(text: str) -> Any:
            create = getattr(client.chat.completions, method)
            return create(model="gpt", messages=ASK, response_model=UserDetail)

        return ask

    async def ask_async(text: str) -> Any:
        async with openai.AsyncOpenAI(base_url=llm.url, api_key="x") as openai_client:
            create = getattr(instructor.from_openai(openai_client).chat.completions, method)
            return await create(model="gpt", messages=ASK, response_model=UserDetail)

    return ask_async


def test_a_miss_equals_a_hit_with_the_real_client(
    colour: Colour, llm: LocalLLM, backend: Any, prefix: str
):
    """Same class, equal, picklable, with the real completion, from one paid call."""
    before = llm.calls
    options: dict[str, Any] = {"returns": UserDetail, "prefix": prefix}
    f = instructor_cache(backend, **options)(asker(colour, llm, "create"))

    async def twice() -> list[Any]:
        return [await colour.call(f, "ada") for _ in range(2)]

    miss, hit = asyncio.run(twice())
    assert llm.calls == before + 1
    assert miss == hit == UserDetail(name="Ada", age=36)
    assert type(miss) is type(hit) is UserDetail
    assert pickle.loads(pickle.dumps(miss)) == hit
    assert type(hit._raw_response) is ChatCompletion
    assert hit._raw_response == miss._raw_response
    assert hit._raw_response.usage.total_tokens == miss._raw_response.usage.total_tokens > 0
    assert hit._raw_response._request_id == miss._raw_response._request_id is not None


def test_a_completion_comes_back_beside_its_model(colour: Colour, llm: LocalLLM):
    """`create_with_completion` under `tuple[M, ChatCompletion]` gives the real class again."""
    f = instructor_cache(MemoryCache(), returns=tuple[UserDetail, ChatCompletion])(
        asker(colour, llm, "create_with_completion")
    )

    async def twice() -> list[Any]:
        return [await colour.call(f, "ada") for _ in range(2)]

    miss, hit = asyncio.run(twice())
    assert miss == hit
    assert type(hit[1]) is ChatCompletion
    assert hit[1].model_dump() == miss[1].model_dump()


def test_the_raw_answer_can_be_left_out(llm: LocalLLM):
    """With `raw_response=False` the entry holds the fields only."""
    memory = MemoryCache()
    options: dict[str, Any] = {"returns": UserDetail, "raw_response": False}
    f = instructor_cache(memory, **options)(asker(Colour("sync"), llm, "create"))
    miss, hit = f("ada"), f("ada")
    assert miss == hit
    assert miss._raw_response.id
    assert not hasattr(hit, "_raw_response")
    assert memory.currbytes < 600


# -- schema changes ------------------------------------------------------------------------------


def change(name: str, after: bool) -> Any:
    """A model before or after a change deep inside it."""
    inner: Any = create_model("Inner", x=(int, ...), **({"y": (int, 0)} if after else {}))
    colour = enum.Enum("Colour", {"RED": 1, **({"BLUE": 2} if after else {})}, module=__name__)
    kind: Any = Literal["a", "c"] if after else Literal["a"]
    one, two = create_model("One", kind=(kind, "a")), create_model("Two", kind=(Literal["b"], "b"))
    fields: dict[str, Any] = {
        "nested": inner,
        "enum": colour,
        "discriminator": Annotated[Union[one, two], Field(discriminator="kind")],
        "constraint": Annotated[int, Field(ge=1 if after else 0)],
        "item": list[float] if after else list[int],
        "optional": int | None if after else int,
    }
    return create_model("Answer", field=(fields[name], ...))


@pytest.mark.parametrize(
    "name", ["nested", "enum", "discriminator", "constraint", "item", "optional"]
)
def test_a_change_inside_makes_another_key(name: str):
    """What changes in a nested part changes the fingerprint; what does not, does not."""

    def key(after: bool) -> str:
        def extract(text: str) -> Any: ...

        return instructor_cache(MemoryCache(), returns=change(name, after))(extract).cache_key("a")

    assert key(False) == key(False) != key(True)


def test_a_hidden_default_counts():
    """A default that the JSON schema does not show is a part of the schema all the same."""
    from pydantic.json_schema import SkipJsonSchema

    def key(default: int) -> str:
        model = create_model("Answer", x=(SkipJsonSchema[int], default))

        def extract(text: str) -> Any: ...

        return instructor_cache(MemoryCache(), returns=model)(extract).cache_key("a")

    assert key(1) == key(1) != key(2)
