"""What the real instructor and openai client answer, against a server that imitates one."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, NamedTuple, Optional, TypeVar, Union

import instructor
import openai
import pytest
from instructor import openai_schema
from openai.types.chat import ChatCompletion, ParsedChatCompletion
from openai.types.responses import ParsedResponse, Response
from pydantic import BaseModel, ConfigDict, PrivateAttr
from sameness import same

from instructor_cache.codecs import RawCompletion, codec_for
from instructor_cache.errors import Unstorable

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from local_llm import LocalLLM

T = TypeVar("T")
ASK = [{"role": "user", "content": "Ada is 36 years old"}]


class UserDetail(BaseModel):
    name: str
    age: int


class Frozen(UserDetail):
    model_config = ConfigDict(frozen=True)


class Private(UserDetail):
    _note: list[int] = PrivateAttr(default_factory=list)


class OwnRaw(UserDetail):
    _raw_response: Any = PrivateAttr(None)


class Box(BaseModel, Generic[T]):
    content: T


PARTIAL: Any = instructor.Partial[UserDetail]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with LocalLLM(delay=0) as server:
        yield instructor.from_openai(openai.OpenAI(base_url=server.url, api_key="x"))


def ask(client: Any, model: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=ASK, response_model=model)


ANNOTATIONS = [
    UserDetail,
    Frozen,
    Private,
    OwnRaw,
    Box,
    Box[UserDetail],
    list[UserDetail],
    Iterable[UserDetail],
    Optional[UserDetail],
]


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
def test_miss_equals_hit(client: Any, annotation: Any) -> None:
    """A miss and a hit are equal, of the user's class, and carry what instructor attached.

    The oldest instructor attaches nothing to lists and optional models, and no sum of the usage.
    """
    is_old = version("instructor").startswith("1.9.")
    codec = codec_for(annotation)
    miss = codec.settle(ask(client, annotation))
    hit = codec.decode(codec.encode(miss))
    assert miss == hit and type(miss) is type(hit) and same(hit, miss)
    for name in ("_raw_response", "_total_usage"):
        assert hasattr(hit, name) is hasattr(miss, name) and (hasattr(hit, name) or is_old)
        assert getattr(hit, name, None) == getattr(miss, name, None)


@pytest.mark.parametrize("annotation", [UserDetail, Frozen, Private, OwnRaw, Box], ids=str)
def test_the_completion_is_the_real_one(client: Any, annotation: Any) -> None:
    """A hit's completion is of the SDK's class, with its usage and its request id."""
    codec = codec_for(annotation)
    miss = codec.settle(ask(client, annotation))
    raw = codec.decode(codec.encode(miss))._raw_response
    assert type(raw) is ChatCompletion and raw == miss._raw_response
    assert raw.usage.total_tokens == miss._raw_response.usage.total_tokens > 0
    assert raw._request_id == miss._raw_response._request_id
    assert raw.model_dump() == miss._raw_response.model_dump()


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
def test_encoding_settles_by_itself(client: Any, annotation: Any) -> None:
    """What was not settled first is stored as if it had been."""
    codec = codec_for(annotation)
    answer = ask(client, annotation)
    payload = codec.encode(answer)
    assert same(codec.decode(payload), codec.settle(answer))


@pytest.mark.parametrize("annotation", [UserDetail, Frozen, Private, Box[UserDetail]], ids=str)
def test_settled_results_can_be_pickled(client: Any, annotation: Any) -> None:
    """A settled result is picklable, which instructor's own answer is not."""
    miss = codec_for(annotation).settle(ask(client, annotation))
    assert pickle.loads(pickle.dumps(miss)) == miss


@pytest.mark.parametrize("completion", [Any, ChatCompletion], ids=str)
def test_create_with_completion(client: Any, completion: Any) -> None:
    """`(model, completion)` comes back with the completion shared as it was."""
    answer = client.chat.completions.create_with_completion(
        model="gpt-4o", messages=ASK, response_model=UserDetail
    )
    codec = codec_for(tuple[UserDetail, completion])
    miss = codec.settle(answer)
    hit = codec.decode(codec.encode(miss))
    assert same(hit, miss)
    assert type(hit[1]) is ChatCompletion
    assert hit[0]._raw_response is hit[1]


def test_results_of_several_calls(client: Any) -> None:
    """A list of answers, each with a completion of its own, comes back whole."""
    codec = codec_for(list[UserDetail])
    miss = codec.settle([ask(client, UserDetail) for _ in range(2)])
    hit = codec.decode(codec.encode(miss))
    assert same(hit, miss)


def test_provider_drift_is_kept(client: Any) -> None:
    """Fields and values that the SDK does not know yet come back as they were."""
    raw = ChatCompletion.construct(
        id="c", choices=[{"finish_reason": "new", "index": "x"}], object="chat.new", novel={"a": 1}
    )
    miss = UserDetail(name="x", age=1)
    object.__setattr__(miss, "_raw_response", raw)
    codec = codec_for(UserDetail)
    assert same(codec.decode(codec.encode(miss)), miss)


@pytest.mark.parametrize("note", ["_request_id", "_workspace_id"])
def test_what_an_sdk_notes_beside_an_answer(client: Any, note: str):
    """A note from a response's headers, as openai's or anthropic's, leaves the completion exact."""
    miss = ask(client, UserDetail)
    object.__setattr__(miss._raw_response, note, "a note")
    codec = codec_for(UserDetail)
    hit = codec.decode(codec.encode(codec.settle(miss)))
    assert (
        type(hit._raw_response) is ChatCompletion and getattr(hit._raw_response, note) == "a note"
    )


def test_class_that_is_not_loaded(client: Any) -> None:
    """Without the SDK a hit has a completion with dots and brackets, and imports nothing."""
    codec = codec_for(UserDetail)
    payload = codec.encode(ask(client, UserDetail))
    code = f"""
import sys
from pydantic import BaseModel
from instructor_cache.codecs import codec_for

class UserDetail(BaseModel):
    name: str
    age: int

raw = codec_for(UserDetail).decode({payload!r})._raw_response
assert raw.usage.total_tokens == raw["usage"]["total_tokens"] > 0
assert raw.choices[0].message.tool_calls[0].function.name == "UserDetail"
assert raw.model_dump()["usage"]["total_tokens"] == raw.usage.total_tokens
assert raw._request_id
assert "openai" not in sys.modules
"""
    root = str(Path(__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": root})
    assert isinstance(RawCompletion({}), RawCompletion)


def test_left_out(client: Any) -> None:
    """`raw_response=False` stores the fields only."""
    codec = codec_for(UserDetail, raw_response=False)
    payload = codec.encode(ask(client, UserDetail))
    assert payload == b'{"name":"Ada","age":36}'
    pair = codec_for(tuple[UserDetail, Any], raw_response=False)
    answer = client.chat.completions.create_with_completion(
        model="gpt-4o", messages=ASK, response_model=UserDetail
    )
    hit = pair.decode(pair.encode(answer))
    assert type(hit[1]) is ChatCompletion and not hasattr(hit[0], "_raw_response")


class Animal(BaseModel):
    name: str


class Dog(Animal):
    age: int


class Aged(BaseModel, Generic[T]):
    age: T


@openai_schema
class Decorated(Animal):
    age: int


Bound = TypeVar("Bound", bound=BaseModel)


@pytest.mark.parametrize(
    ("annotation", "model"),
    [
        (Animal, Dog),
        (Bound, UserDetail),
        (BaseModel, UserDetail),
        (list[Animal], list[Dog]),
        (Aged, Aged[int]),
        (UserDetail, PARTIAL),
    ],
    ids=["base", "TypeVar", "BaseModel", "list", "generic", "Partial"],
)
def test_annotation_may_name_a_base(client: Any, annotation: Any, model: Any) -> None:
    """A function that is annotated with a base of what it asked for has hits like any other."""
    codec = codec_for(annotation)
    first, second = (codec.settle(ask(client, model)) for _ in range(2))
    hit = codec.decode(codec.encode(second))
    assert type(first) is type(second) is type(hit)
    assert hit == second and same(hit, second)


def test_subclass_with_the_mixin_of_instructor_is_the_users_own() -> None:
    """A class that someone derived from OpenAISchema is not demoted to its base."""

    class Cat(Animal, instructor.OpenAISchema):
        lives: int

    cat: Any = Cat(name="x", lives=9)
    assert codec_for(Animal).settle(cat) is cat


def test_decorated_class_is_the_users_own(client: Any) -> None:
    """A class made by `@openai_schema` keeps its instances: it is known under its name."""
    assert type(codec_for(Animal).settle(Decorated(name="x", age=1))) is Decorated


def test_parallel_answers_are_left_unread() -> None:
    """The iterator that PARALLEL_TOOLS answers is refused, and whole afterwards."""
    annotation = Iterable[Union[UserDetail, Animal]]
    with LocalLLM(delay=0) as server:
        parallel = instructor.from_openai(
            openai.OpenAI(base_url=server.url, api_key="x"), mode=instructor.Mode.PARALLEL_TOOLS
        )
        answer = ask(parallel, annotation)
    with pytest.raises(Unstorable, match="read only once"):
        codec_for(annotation).encode(answer)
    assert len(list(answer)) == 1


PARSED: dict[str, Any] = {
    "ParsedChatCompletion[UserDetail]": ParsedChatCompletion[UserDetail],
    "tuple[UserDetail, ChatCompletion]": tuple[UserDetail, ChatCompletion],
    "ParsedResponse[UserDetail]": ParsedResponse[UserDetail],
    "tuple[UserDetail, Response]": tuple[UserDetail, Response],
}


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    """What the SDK's own `parse` gives, by what it is asked for."""
    with LocalLLM(delay=0) as server, openai.OpenAI(base_url=server.url, api_key="x") as sdk:
        completion = sdk.chat.completions.parse(
            model="gpt-4o", messages=ASK, response_format=UserDetail
        )
        response = sdk.responses.parse(
            model="gpt-4o", input="Ada is 36 years old", text_format=UserDetail
        )
    pairs = (completion.choices[0].message.parsed, completion), (response.output_parsed, response)
    return dict(zip(PARSED, (completion, pairs[0], response, pairs[1]), strict=True))


@pytest.mark.parametrize(
    ("name", "annotation"),
    [  # each starts a program
        pytest.param(*each, id=each[0], marks=[pytest.mark.slow] if "tuple" in each[0] else [])
        for each in PARSED.items()
    ],
)
def test_parsed_answers_of_the_sdk(parsed: dict[str, Any], name: str, annotation: Any) -> None:
    """A parsed answer comes back whole, also in a process where the SDK has parsed nothing yet."""
    codec = codec_for(annotation)
    miss = codec.settle(parsed[name])
    payload = codec.encode(miss)
    assert same(codec.decode(payload), miss) and miss == parsed[name]
    code = f"""
from openai.types.chat import ChatCompletion, ParsedChatCompletion
from openai.types.responses import ParsedResponse, Response
from pydantic import BaseModel
from instructor_cache.codecs import codec_for

class UserDetail(BaseModel):
    name: str
    age: int

UserDetail.__module__ = {UserDetail.__module__!r}
hit = codec_for({name}).decode({payload!r})
print(hit[0] if isinstance(hit, tuple) else hit.model_dump_json())
"""
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, env={"PYTHONPATH": root}, stdout=subprocess.PIPE)
    whole = str(miss[0]) if isinstance(miss, tuple) else miss.model_dump_json()
    assert done.stdout.decode().strip() == whole


class Holder(NamedTuple):
    user: UserDetail
    cost: float


@dataclass
class Held:
    user: UserDetail


class Keeper(BaseModel):
    n: int = 1
    _user: Any = PrivateAttr(None)


def keeper(user: Any) -> Keeper:
    kept = Keeper()
    kept._user = user
    return kept


@pytest.mark.parametrize(
    ("make", "get"),
    [
        (lambda user: Holder(user, 0.1), lambda made: made.user),
        (Held, lambda made: made.user),
        (keeper, lambda made: made._user),
    ],
    ids=["NamedTuple", "dataclass", "private attribute"],
)
def test_answers_in_other_places_are_settled(client: Any, make: Any, get: Any) -> None:
    """Answers in named tuples, dataclasses and private attributes are of the user's class."""
    codec = codec_for(tuple[Union[Holder, Held, Keeper, UserDetail], UserDetail])
    answer = ask(client, UserDetail)
    settled = codec.settle((make(answer), answer))
    assert type(get(settled[0])) is UserDetail and get(settled[0]) is settled[1]
    hit = codec.decode(codec.encode(settled))
    assert same(hit, settled) and type(get(hit[0])._raw_response) is ChatCompletion
