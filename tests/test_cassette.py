"""Cassettes: answers recorded beside a test, played without a model, reviewed by people."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import instructor
import pytest
from conftest import Colour
from corpus import SHAPES
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from instructor_cache import (
    CacheMiss,
    DiskCache,
    MemoryCache,
    UnkeyableArgument,
    Unstorable,
    bypass,
    cache_client,
    instructor_cache,
    offline,
)
from instructor_cache._stand_in import STAND_INS
from instructor_cache.codecs import codec_for
from instructor_cache.codecs._compare import difference
from instructor_cache.entry import FORMAT
from instructor_cache.testing._file import path_beside
from instructor_cache.testing._hand import unknown
from instructor_cache.testing._leaks import leak
from instructor_cache.testing._page import Block, Page, read
from instructor_cache.testing._sketches import shown_text, text_of
from instructor_cache.testing._texts import gather, spread, write
from instructor_cache.testing.cassette import (
    BrokenCassette,
    Cassette,
    CassetteWarning,
)

EXAMPLES = Path(__file__).parent.parent / "examples"
KEY = f"instructor:app.extract:0123456789abcdef{FORMAT:x}:00112233445566778899aabbccddeeff"


class User(BaseModel):
    name: str
    age: int = 0


class Person(BaseModel):
    name: str
    bio: str
    tags: list[str]
    more: dict[str, Any]


class Bag(BaseModel):
    numbers: set[int]


def page(*payloads: bytes, call: str = "") -> Page:
    """A page with a block for each payload."""
    keys = [f"{KEY[:-4]}{n:04}" for n in range(len(payloads))]
    return Page({k: Block(k, call, p) for k, p in zip(keys, payloads, strict=True)})


@pytest.fixture(scope="module")
def _imported() -> None:
    """Import first what inner runs import late: they leave no module behind."""
    with OpenAI(api_key="none") as client:
        instructor.from_openai(client)


@pytest.fixture
def llm(_imported: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model over HTTP on this machine."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from local_llm import LocalLLM

    with LocalLLM(delay=0) as llm:
        monkeypatch.setenv("LLM_URL", llm.url)
        yield llm


# -- the file ------------------------------------------------------------------------------

PAYLOADS = [
    b'{"name":"Ada","age":36}',
    b'{"bio":"one\\ntwo\\r\\n","tags":["a","b"],"f":1.0,"big":1e22,"minus":-0.0}',
    '{"名":"日本語 — “é” \u2028 \x7f"}'.encode(),
    b'!{"m":["app:User",{"name":"x"}]}',
    b'!{"s":"\\ud800"}',
    b'?"public"',
    b"null",
    b'{"$lines":["a"],"$$lines":{"$lines":1},"$repr":"a"}',
    b'{"a":1}\n{"raw":[{"class":"m:C"}],"at":[[[],"x",0]],"lists":[]}\n{"c":[{"text":"a\\nb"}]}',
    b"*",
    b'*{"a":1}\n\n!{"b":2}\n\n{"a":1}\n{"raw":[],"at":[],"lists":[[[],"m:L"]]}',
    b'.{"a":1}\n{"raw":[{"is_data":true}],"at":[[[],"_raw_response",0]],"lists":[]}\n[1]',
    b'{"f":1e999,"precise":0.1000000000000000055511151231257827}',
    b'{"digits":' + b"9" * 5000 + b"}",
    b'{"twice":1,"twice":2}',
    b"[" * 3000 + b"]" * 3000,
    b"\xff\xfe\x00",
]


def same(payload: bytes) -> Any:
    """What a payload says, however its JSON is spaced."""
    try:
        return [json.loads(line.lstrip(b"!?*.") or b"0") for line in payload.split(b"\n") if line]
    except (ValueError, RecursionError):
        return payload


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_every_form_of_payload_comes_back(payload: bytes):
    """What is read says what was written, mark for mark, and writes the same text again."""
    text = page(payload).text()
    (block,) = read(text.encode(), "x").blocks.values()
    assert same(block.payload) == same(payload)
    assert block.payload[:1] == payload[:1]
    assert Page({block.key: block}).text() == text


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$lines", "$$lines", "a", "\n"]), inner, max_size=3)
    ),
    max_leaves=9,
)


@given(JSONS)
def test_any_json_comes_back_from_its_layout(value: Any):
    """Lines, escapes and line breaks change nothing."""
    assert gather(json.loads(write(spread(value)))) == value


@given(JSONS)
def test_any_argument_comes_back_from_its_text(value: Any):
    """A sketch's text is what it was, whether it was shown as data or as Python writes it."""
    for text in (repr(value), f"User({value!r})", "'cut … off"):
        assert text_of(json.loads(write(shown_text(text)))) == text


def test_answers_equal_those_recorded():
    """Awkward models come back as they were, by the comparer of the codecs."""
    more = {"x": [1, 1.0, None, "a\nb"], "$lines": 1}
    person = Person(name="Ada\n", bio="é\r\n\n“日本”", tags=["a"] * 30, more=more)
    codec = codec_for(list[Person] | None)
    for result in ([person, person], None, []):
        (block,) = read(page(codec.encode(result)).text().encode(), "x").blocks.values()
        assert difference(codec.decode(block.payload), result) is None


def test_a_file_is_made_to_be_read():
    """Text is in lines, non-ASCII as such, short lists in one line, raw answers in one each."""
    payload = (
        '{"name":"Zoë","bio":"one\\ntwo","tags":["a","b"]}\n'
        '{"raw":[{"class":"m:C"}],"at":[[[],"_raw_response",0]],"lists":[]}\n{"id":"c1","n":[{}]}'
    ).encode()
    call = '{"text":["\'first\\\\nsecond\'","0a1b2c3d"],"user":["User(name=\'x\')","4e5f6a7b"]}'
    lines = page(payload, call=call).text().split("\n")
    start = lines.index('      "function": "app.extract",')
    assert "\n".join(lines[start : start + 22]) == (
        '      "function": "app.extract",\n'
        '      "call": {\n'
        '        "text": {"$lines": [\n'
        '          "first",\n'
        '          "second"\n'
        "        ]},\n"
        '        "user": {"$repr": "User(name=\'x\')"}\n'
        "      },\n"
        '      "answer": {\n'
        '        "name": "Zoë",\n'
        '        "bio": {"$lines": [\n'
        '          "one",\n'
        '          "two"\n'
        "        ]},\n"
        '        "tags": ["a", "b"]\n'
        "      },\n"
        '      "attached": {"at": [[[], "_raw_response", 0]], "lists": []},\n'
        '      "raw": [\n'
        '        {"head": {"class": "m:C"}, "body": {"id": "c1", "n": [{}]}}\n'
        "      ],\n"
        '      "digests": {"text": "0a1b2c3d", "user": "4e5f6a7b"},\n'
        '      "key": "' + KEY[:-4] + '0000"'
    )


def test_only_what_is_said_counts_as_new():
    """Another id or time of a completion changes no block; another answer or usage does."""
    one = b'{"key":"a"}\n{"raw":[{"class":"m:C","request_id":"r%d"}],"at":[],"lists":[]}\n%s'
    blocks = [
        Block(KEY, "", payload)
        for payload in (
            one % (1, b'{"id":"c1","created":1,"usage":{"id":7}}'),
            one % (2, b'{"id":"c2","created":2,"usage":{"id":8}}'),
            one % (1, b'{"id":"c1","created":1,"usage":{"n":7}}'),
            one.replace(b'"a"', b'"b"') % (1, b'{"id":"c1","created":1,"usage":{"id":7}}'),
        )
    ]
    assert [blocks[0].says_as_much_as(other) for other in blocks] == [True, True, False, False]


def test_a_cassette_outlives_the_format_of_entries():
    """Recorded before entries had another format, the only part of a key that tells of it."""
    text = page(b"1").text()
    assert f"f{FORMAT:x}:" in text
    (key,) = read(text.replace(f"f{FORMAT:x}:", "f1:").encode(), "x").blocks
    assert key in text


def test_the_order_of_calls_does_not_matter():
    """Blocks stand in the order of functions and calls, whatever came first."""
    whole = page(*PAYLOADS)
    assert Page(dict(reversed(whole.blocks.items()))).text() == whole.text()
    assert list(read(whole.text().encode(), "x").blocks) == sorted(whole.blocks)


GOOD = page(PAYLOADS[0], PAYLOADS[9]).text()
BROKEN = [
    (GOOD[: GOOD.index('"answer"') + 20], 9, "no JSON"),
    (GOOD.replace('  "entries"', '<<<<<<< HEAD\n  "entries"'), 4, "merge conflict"),
    ("[]", 1, 'no list of "entries"'),
    (GOOD.replace('"cassette": 1', '"cassette": 2'), 1, "wanted 1"),
    (GOOD.replace('"answer"', '"anwser"'), 6, 'unknown "anwser"'),
    (GOOD.replace('"answer": {', '"stream": [], "answer": {'), 6, "one of"),
    (GOOD.replace('"stream": []', '"stream": {}'), 15, "wanted a list"),
    (GOOD.replace('"stream": []', '"stream": [{}]'), 15, 'no "answer"'),
    (GOOD.replace("0001", "0000"), 15, "second block"),
    (GOOD.replace('"key": "instructor:', '"key": "'), 6, '"key"'),
    (GOOD.replace('"name": "Ada"', '"name": {"$lines": "Ada"}'), 6, "$lines"),
    (GOOD.replace('"answer": {', '"call": [], "answer": {'), 6, "objects"),
    (GOOD.replace('"answer": {', '"attached": {}, "raw": [{}], "answer": {'), 6, "raw"),
    (GOOD.replace('"stream": []', '"payload": []'), 15, "wanted text"),
    (GOOD.replace('"stream": []', '"stream": [[]]'), 15, "wanted an object"),
    (GOOD.replace('"entries": [', '"entries": [[],'), 4, "no object"),
    (GOOD.replace('"age"', '"age": 1}, "form": "odd", "call": {"age"'), 6, "odd"),
    (GOOD.replace('"stream": []', '"base64": "?"'), 15, "base64"),
    (GOOD.replace("Ada", "\udcff"), 9, "UTF-8"),
    (GOOD.replace('"entries"', '"entries": [], "entries"'), 1, '"entries" twice'),
    ("[" * 100_000, 1, "no JSON"),
    (GOOD.replace('"age": 36\n      },', '"age": 36'), 11, "of a merge, take each block whole"),
]


@pytest.mark.parametrize(("text", "line", "wanted"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_says_where_and_what_to_do(text: str, line: int, wanted: str, tmp_path: Path):
    """The error names file, line, what is wanted and the remedy; the file stays as it is."""
    path = tmp_path / "x.json"
    path.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(BrokenCassette) as caught:
        Cassette(path)
    assert str(caught.value).startswith(f"{path}, line {line}: found ")
    assert wanted in str(caught.value)
    assert 'Cassette(path, "all")' in str(caught.value)
    assert path.read_text("utf-8", "surrogateescape") == text


def test_no_two_tests_share_a_file():
    """Names that differ only in what file systems can't tell, or at the end, get files apart."""
    names = [
        "t",
        "T",
        "T.t",
        "t.t",
        "t[a/b]",
        "t[a:b]",
        "t[a b]",
        "t[A]",
        "t[a]",
        "t[é]",
        "t[..]",
        "t[\\]",
    ]
    names += [f"t[{'x' * 300}{end}]" for end in "ab"]
    paths = [path_beside(Path("tests/test_x.py"), name) for name in names]
    assert len({str(path).lower() for path in paths}) == len(names)
    assert all(path.parent == Path("tests/cassettes/test_x") for path in paths)
    assert all(re.fullmatch(r"[\w.\[\]-]{1,120}", path.name, re.ASCII) for path in paths)


@pytest.mark.parametrize("text", ["{", GOOD.replace("[]", "[" * 2_000 + "]" * 2_000)])
def test_all_replaces_what_is_broken(text: str, tmp_path: Path):
    """A broken file is replaced only by who asks for that; what can't be written says so."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BrokenCassette):
        Cassette(path)
    with Cassette(path, "all").playing():
        instructor_cache(MemoryCache())(answer)("a")
    assert len(read(path.read_bytes(), "x").blocks) == 1
    cassette = Cassette(path, "all")
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError), cassette.playing():
        instructor_cache(MemoryCache())(answer)("a")
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_cassette_knows_its_modes(tmp_path: Path):
    """A mode that there is not is refused with those that there are."""
    with pytest.raises(ValueError, match='"once", "none" or "all"'):
        Cassette(tmp_path / "x.json", "never")  # type: ignore[arg-type]
    assert "mode='none', played=0, recorded=0" in repr(Cassette(tmp_path / "x.json", "none"))


def test_writers_of_one_file_keep_all_answers(tmp_path: Path):
    """Nobody sees a half, the last has what all have recorded, and nothing else stays behind."""
    path = tmp_path / "cassettes" / "x.json"

    def record(cassette: Cassette, block: Block) -> None:
        cassette._tape.recorded[block.key] = block
        cassette.save()
        assert block.key in read(path.read_bytes(), "x").blocks

    blocks = page(*(b'"%d"' % n * 2000 for n in range(40))).blocks
    cassettes = [Cassette(path, "all") for _ in blocks]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, cassettes, blocks.values()))
    assert read(path.read_bytes(), "x").blocks == blocks
    assert os.listdir(path.parent) == ["x.json"]


@pytest.mark.parametrize("mode", ["once", "all"])
def test_two_workers_record_one_cassette(mode: Any, tmp_path: Path):
    """Each adds to what the other has written since it began, be that as it was before."""
    path, ask = tmp_path / "x.json", instructor_cache(MemoryCache())(answer)
    with suppress(ZeroDivisionError), Cassette(path).playing():
        for text in "abc":
            ask(text)
        _ = 1 / 0
    one, other = Cassette(path, mode), Cassette(path, mode)
    for cassette, texts in ((one, "abd"), (other, "cde")):
        with cassette.playing():
            for text in texts:
                ask(text)
    assert len(read(path.read_bytes(), "x").blocks) == 5
    first, second, third = (Cassette(path, "all") for _ in range(3))
    with first.playing():
        for text in "abcde":
            ask(text)
    with second.playing():
        pass
    with third.playing():
        ask("f")
    assert len(read(path.read_bytes(), "x").blocks) == 6
    with Cassette(path, "none").playing():
        for text in "abcdef":
            ask(text)


def test_it_is_complete_when_all_who_write_it_are(tmp_path: Path):
    """What one of two has not recorded yet is recorded the next time."""
    path, ask = tmp_path / "x.json", instructor_cache(MemoryCache())(answer)
    one, other = Cassette(path), Cassette(path)
    with suppress(ZeroDivisionError), one.playing():
        ask("a")
        _ = 1 / 0
    with other.playing():
        ask("b")
    with Cassette(path).playing() as both:
        for text in "abc":
            ask(text)
    assert (both.played, both.recorded) == (2, 1)


def test_a_folder_that_is_read_only_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error says which answers are lost; who has none to record needs no folder to write to."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "unlink", "write_bytes"):
        monkeypatch.setattr(Path, name, refuse)
    with Cassette(tmp_path / "x.json").playing():
        pass
    told = pytest.raises(
        OSError, match=r"x.json: .*Read-only.*of test_cassette.answer are not kept"
    )
    with told as caught, Cassette(tmp_path / "x.json").playing():
        instructor_cache(MemoryCache())(answer)("a")
    assert caught.value.errno == 30


# -- standing in ---------------------------------------------------------------------------


def numbered(calls: list[str], backend: Any = None, **options: Any) -> Any:
    """A cached function that notes its calls, and answers with their number."""

    def ask(text: str) -> User:
        calls.append(text)
        return User(name=text, age=len(calls))

    return instructor_cache(backend or MemoryCache(), **options)(ask)


def test_everything_uses_what_stands_in(tmp_path: Path):
    """A warm function, one with a ttl, tags and a lock, and threads all use the cassette."""
    calls: list[str] = []
    warm = numbered(calls)
    warm("a")
    busy = numbered(
        calls,
        DiskCache(tmp_path / "disk"),
        ttl=0.001,
        tags=("t",),
        lock="backend",
        stale_ttl=1,
        jitter=0.5,
    )
    for _ in range(2):
        with Cassette(tmp_path / "x.json").playing() as cassette:
            answers = [warm("a"), busy("b"), busy("b")]
            other = Thread(target=lambda answers=answers: answers.append(warm("a")))
            other.start()
            other.join()
        assert [answer.age for answer in answers] == [2, 3, 3, 2]
    assert (cassette.played, cassette.recorded) == (4, 0)
    assert warm("a").age == 1
    assert calls == ["a", "a", "b"]


def test_the_innermost_cassette_counts(tmp_path: Path):
    """Cassettes nest; each is left as it was entered, also by an error."""
    calls: list[str] = []
    ask = numbered(calls)
    with Cassette(tmp_path / "outer.json").playing() as outer:
        ask("a")
        with suppress(ZeroDivisionError), Cassette(tmp_path / "x.json").playing() as inner:
            ask("a")
            _ = 1 / 0
        assert ask("a").age == 1
    assert (outer.recorded, outer.played, inner.recorded) == (1, 1, 1)
    assert not STAND_INS


def test_fifty_threads_record_one_call(tmp_path: Path):
    """Single flight holds while recording."""
    calls: list[str] = []
    ask = numbered(calls)
    with Cassette(tmp_path / "x.json").playing(), ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, ["a"] * 50))
    assert {answer.age for answer in answers} == {1}
    assert len(calls) == 1


def test_a_call_that_goes_on_while_it_is_saved_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A thread that outlives the block may answer in that moment; what was there is written."""
    is_begun, may_end = Event(), Event()

    @instructor_cache(MemoryCache())
    def ask(text: str) -> User:
        if text == "late":
            is_begun.set()
            assert may_end.wait(10)
        return User(name=text)

    def settled(_: Cassette, block: Block) -> Block:
        may_end.set()
        late.join(10)
        return block

    monkeypatch.setattr(Cassette, "_settled", settled)
    late = Thread(target=ask, args=("late",))
    told = pytest.warns(CassetteWarning, match="ask was given up")
    with told, Cassette(tmp_path / "x.json").playing() as cassette:
        ask("early")
        late.start()
        assert is_begun.wait(10)
    text = cassette.path.read_text()
    assert '"name": "early"' in text and '"name": "late"' not in text


def test_what_is_not_stored_is_not_recorded(tmp_path: Path):
    """ttl=0, cache_if and an error of the function leave no answer; a warning says what did."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def fails(text: str) -> User:
        raise KeyError(text)

    told = pytest.warns(CassetteWarning, match="raised KeyError")
    with told as warned, Cassette(tmp_path / "x.json").playing() as cassette:
        for options in ({"ttl": 0}, {"ttl": lambda _: 0}, {"cache_if": lambda _: False}):
            ask = numbered(calls, **options)
            assert ask("a").age != ask("a").age
        with pytest.raises(KeyError):
            fails("a")
    assert len(warned) == 1
    assert cassette.recorded == 0
    assert not cassette.path.exists()


def test_a_call_without_a_key_is_told_before_it_is_paid(tmp_path: Path):
    """What could not be played again is not recorded either: the error names the remedy."""
    calls: list[Any] = []

    @instructor_cache(MemoryCache())
    def ask(client: object) -> User:
        calls.append(client)
        return User(name="x")

    with Cassette(tmp_path / "x.json").playing(), pytest.raises(UnkeyableArgument, match="ignore="):
        ask(object())
    assert not calls


def test_a_set_in_another_order_is_no_other_answer(tmp_path: Path):
    """Recorded anew where sets are in another order, an answer stays as it stands in the file."""
    numbers = iter(([0, 8], [8, 0], [0, 9]))

    @instructor_cache(MemoryCache())
    def ask() -> Bag:
        return Bag(numbers=set(next(numbers)))

    texts: list[str] = []
    for _ in range(3):
        with Cassette(tmp_path / "x.json", "all").playing():
            ask()
        texts.append((tmp_path / "x.json").read_text())
    assert texts[0] == texts[1] != texts[2]


async def test_what_is_invalidated_is_asked_again_and_played_again(colour: Colour, tmp_path: Path):
    """While recording, the last answer is the one that is kept; it is then played each time."""
    calls: list[str] = []

    def ask(text: str) -> User:
        calls.append(text)
        return User(name=text, age=len(calls))

    cached = instructor_cache(MemoryCache())(colour.function(ask))
    ages: list[int] = []
    for told in (pytest.warns(CassetteWarning, match="answered otherwise"), nullcontext()):
        with told, Cassette(tmp_path / "x.json").playing():
            for forget in (partial(cached.cache_invalidate, "a"), cached.cache_clear):
                ages.append((await colour.call(cached, "a")).age)
                await colour.call(forget)
    assert ages == [1, 2, 2, 2]


def test_a_second_answer_to_a_call_is_told(tmp_path: Path):
    """Only the last can be played, wherever the first came from; what the test sets is no call."""
    calls: list[str] = []
    ask = numbered(calls)
    with Cassette(tmp_path / "x.json").playing():
        for name in ("put", "put again"):
            ask.cache_set(User(name=name), "a")
            assert ask("a").name == name
    with suppress(ZeroDivisionError), Cassette(tmp_path / "y.json").playing():
        ask("a")
        _ = 1 / 0
    told = pytest.warns(CassetteWarning, match=r"y.json: .*answered otherwise \(.*ask\), of which")
    with told, Cassette(tmp_path / "y.json").playing():
        assert ask("a").age == 1
        ask.cache_invalidate("a")
        assert ask("a").age == 2
    told = pytest.warns(CassetteWarning, match="answered otherwise")
    with told, Cassette(tmp_path / "z.json").playing(), bypass():
        assert ask("b").age != ask("b").age
    same = instructor_cache(MemoryCache())(answer)
    with Cassette(tmp_path / "same.json").playing(), bypass():
        assert same("b") == same("b")


async def test_what_is_set_while_playing_stays_there(colour: Colour, tmp_path: Path):
    """A test may put answers in place; the file stays as it is."""
    cached = instructor_cache(MemoryCache())(colour.function(answer))
    with Cassette(tmp_path / "x.json").playing():
        await colour.call(cached, "a")
    text = (tmp_path / "x.json").read_text()
    with Cassette(tmp_path / "x.json").playing() as cassette:
        await colour.call(cached.cache_set, User(name="put"), "b")
        assert (await colour.call(cached, "b")).name == "put"
        with pytest.raises(CacheMiss, match="nearest of 2 stored calls"):
            await colour.call(cached, "c")
    assert (cassette.recorded, (tmp_path / "x.json").read_text()) == (0, text)


def answer(text: str) -> User:
    return User(name=text)


def test_streams_are_recorded_and_played(tmp_path: Path):
    """All items of a whole stream are in one block; one that was abandoned leaves nothing."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def stream(text: str) -> Iterator[User]:
        calls.append(text)
        for n in range(3):
            yield User(name=text, age=n)

    @instructor_cache(MemoryCache())
    async def astream(text: str) -> AsyncIterator[User]:
        calls.append(text)
        yield User(name=text)

    async def collect() -> list[User]:
        return [user async for user in astream("c")]

    told = pytest.warns(CassetteWarning, match="stream was left before its end")
    for context in (told, nullcontext()):
        with context, Cassette(tmp_path / "x.json").playing() as cassette:
            assert [user.age for user in stream("a")] == [0, 1, 2]
            assert [user.age for user in stream("a")] == [0, 1, 2]
            assert asyncio.run(collect()) == [User(name="c")]
            if cassette.is_recording:
                next(stream("b"))
        assert calls == ["a", "c", "b"]
    text = (tmp_path / "x.json").read_text()
    assert text.count('"stream"') == 2 and '"b"' not in text
    miss = pytest.raises(CacheMiss, match="this call was left before its end")
    with Cassette(tmp_path / "x.json").playing(), miss:
        list(stream("b"))


def test_a_client_is_played_exactly(tmp_path: Path, llm: Any):
    """All that a client's methods give is, from the cassette, what it was: raw answers and all."""

    def ask() -> list[Any]:
        with OpenAI(base_url=llm.url, api_key="none") as plain:
            create = cache_client(instructor.from_openai(plain), MemoryCache()).chat.completions
            said: Any = {"messages": [{"role": "user", "content": "Ada is 36"}], "model": "m"}
            one = create.create(response_model=User, **said)
            both = create.create_with_completion(response_model=User, **said)
            return [one, both, create.create(response_model=list[User], **said)]

    with Cassette(tmp_path / "x.json").playing():
        first = ask()
    with Cassette(tmp_path / "x.json", "none").playing() as cassette:
        again = ask()
    assert difference(again, first) is None
    assert again[1][1].choices and again[0]._raw_response.id == first[0]._raw_response.id
    assert (cassette.played, llm.calls) == (3, 2)


COMPLETION = ChatCompletion(
    id="chatcmpl-1", choices=[], created=1, model="m", object="chat.completion"
)
COMPLETION._request_id = "req_1"  # as the SDK sets it


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (ChatCompletion, COMPLETION),
        (User | ChatCompletion, COMPLETION),
        (tuple[User, ChatCompletion], (User(name="Ada"), COMPLETION)),
        (dict[str, ChatCompletion], {"a": COMPLETION}),
        (Iterator[ChatCompletion], iter([COMPLETION])),
    ],
)
def test_a_providers_own_answer_is_played(annotation: Any, given: Any, tmp_path: Path):
    """What has a completion in it, or is one, comes from the cassette as it was recorded."""

    @instructor_cache(MemoryCache(), returns=annotation)
    def ask() -> Any:
        return given

    def play() -> Any:
        answer = ask()
        return list(answer) if isinstance(answer, Iterator) else answer

    with Cassette(tmp_path / "x.json").playing():
        first = play()
    with Cassette(tmp_path / "x.json", "none").playing():
        assert difference(play(), first) is None


def test_what_a_client_sends_is_readable(tmp_path: Path, llm: Any):
    """Its messages stand in a cassette, and in a miss, as those of a function; with the host."""
    store, said = MemoryCache(), [{"role": "user", "content": "Ada is 36\nBob is 41"}]

    def ask(url: str = llm.url, **options: Any) -> Any:
        with OpenAI(base_url=url, api_key="none") as plain:
            client = cache_client(instructor.from_openai(plain), store)
            return client.create(response_model=User, model="m", messages=said, **options)

    with Cassette(tmp_path / "x.json").playing():
        ask()
    (entry,) = json.loads((tmp_path / "x.json").read_text())["entries"]
    shown = {"role": "user", "content": {"$lines": ["Ada is 36", "Bob is 41"]}}
    assert entry["call"]["messages"] == [shown] and entry["call"]["_client"]["endpoint"] == "any"
    ask()
    with offline(), pytest.raises(CacheMiss) as caught:
        ask(llm.url.replace("127.0.0.1", "ada:canary@localhost"), extra_body={"a": {"b": 1}})
    told = str(caught.value)
    assert "+ {'a': {'b': 1}}" in told and "canary" not in told
    assert "127.0.0.1" in told and "localhost" in told


def test_a_clients_raw_streams_are_told_not_made(tmp_path: Path, llm: Any):
    """A call whose answer can't be recorded does not get to the provider past the cassette."""
    with OpenAI(base_url=llm.url, api_key="none") as plain:
        client = cache_client(instructor.from_openai(plain), MemoryCache())
        ask = partial(client.chat.completions.create, model="m", messages=[], stream=True)
        with (
            Cassette(tmp_path / "x.json").playing(),
            pytest.raises(CacheMiss, match="can't be recorded .*x.json"),
        ):
            ask(response_model=None)
    assert llm.calls == 0


def test_accounts_are_never_mixed_up(tmp_path: Path, llm: Any):
    """Two who ask the same are told to have names while it is recorded; these count ever after."""
    said: Any = {"messages": [{"role": "user", "content": "Ada is 36"}], "model": "m"}
    servers = {"here": llm.url, "there": llm.url.replace("127.0.0.1", "localhost")}

    def ask(key: str, server: str = "here", **options: Any) -> User:
        with OpenAI(base_url=servers[server], api_key=key) as plain:
            client = cache_client(instructor.from_openai(plain), MemoryCache(), **options)
            return client.chat.completions.create(response_model=User, **said)  # type: ignore[no-any-return]

    with Cassette(tmp_path / "x.json").playing() as cassette:
        ask("canary-one")
        ask("canary-one")
        for other in ({"key": "canary-two"}, {"key": "canary-one", "server": "there"}):
            with pytest.raises(UnkeyableArgument, match=r"another (account|server).*namespace="):
                ask(**other)
        ask("canary-two", namespace="two")
    assert (llm.calls, cassette.recorded) == (2, 2)
    text = (tmp_path / "x.json").read_text()
    assert "canary" not in text and llm.url not in text and "@two" in text
    with Cassette(tmp_path / "x.json", "none").playing():
        for key, namespace in (("c", "two"), ("b", None), ("a", None)):
            ask(key, "there", namespace=namespace)


SECRETS = [
    "sk-proj-canary0123456789",
    "AKIACANARY0123456789",
    "ghp_canary0123456789canary0123456789",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIcanary",
    "Basic Y2FuYXJ5OmNhbmFyeTEyMw==",
    "SG.canary0123456789canary.canary0123456789canary0123456789",
    "AccountKey=canary0123456789canary0123456789==",
    "https://hooks.slack.com/services/T000/B000/canary0123456789",
    *(f"{begun}canary0123456789canary0123456789" for begun in ("npm_", "pypi-", "tvly-")),
    "postgres://canary:canary123@db/app",
    "Y2FuYXJ5IHNrLXByb2otY2FuYXJ5MDEyMzQ1Njc4OQ==",
]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_an_answer_with_a_secret_is_not_written(secret: str, tmp_path: Path):
    """A key that the model repeats stays out of the file, and a warning says why."""
    calls: list[str] = []
    ask = numbered(calls)
    told = pytest.warns(CassetteWarning, match="looks like a key")
    with told as warned, Cassette(tmp_path / "x.json").playing():
        ask("fine")
        assert ask(secret).name == secret
    text = (tmp_path / "x.json").read_text()
    assert "fine" in text and "canary" not in text.lower()
    assert "canary" not in str(warned[0].message)


def test_secrets_of_the_environment_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever a key looks like: what a variable such as MY_API_KEY holds is masked or refused."""
    monkeypatch.setenv("MY_API_KEY", 'plain"looking\ncanary')
    assert leak(json.dumps('plain"looking\ncanary')) == leak('plain"looking\ncanary') != ""

    @instructor_cache(MemoryCache())
    def ask(text: str, api_key: str) -> User:
        return User(name="fine")

    with Cassette(tmp_path / "x.json").playing():
        ask(f"use {os.environ['MY_API_KEY']}", "other-canary")
        ask("Bearer canary123 and password=canary", "other-canary")
    text = (tmp_path / "x.json").read_text()
    assert text.count('"function"') == 2 and "canary" not in text


# -- the plugin ----------------------------------------------------------------------------

INNER = """
import asyncio, os
import instructor, pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from instructor_cache import DiskCache, MemoryCache, instructor_cache

class User(BaseModel):
    name: str
    age: int

settings = dict(base_url=os.environ["LLM_URL"], api_key="canary-api-key", max_retries=0)

@instructor_cache(MemoryCache(), ttl="1h")
def extract(text: str) -> User:
    with OpenAI(**settings) as openai:
        return instructor.from_openai(openai).chat.completions.create(
            model="local", response_model=User, messages=[{"role": "user", "content": text}]
        )

@instructor_cache(MemoryCache())
async def aextract(text: str) -> list[User]:
    async with AsyncOpenAI(**settings) as openai:
        return await instructor.from_openai(openai).chat.completions.create(
            model="local", response_model=list[User], messages=[{"role": "user", "content": text}]
        )
"""

CALLS = """
def test_sync(instructor_cassette):
    first, second = extract("Ada is 36"), extract("Ada is 36")
    assert first == second == User(name="Ada", age=36)
    assert first._raw_response.choices[0].finish_reason == "stop"
    assert asyncio.run(aextract("Bob is 41. Eve is 29"))[1].name == "Eve"

class TestClass:
    @pytest.mark.parametrize("name", ["Ada", "Bob"], ids=["ada", "a/b"])
    def test_method(self, instructor_cassette, name):
        assert extract(f"{name} is 36").age == 36
"""


def run(pytester: pytest.Pytester, *args: str, **outcomes: int) -> pytest.RunResult:
    """Run pytest in *pytester*'s folder, and see that it goes as it should."""
    done = pytester.runpytest_inprocess("-p", "pytest_instructor_cache", "-q", *args)
    done.assert_outcomes(**outcomes)
    return done


def files(pytester: pytest.Pytester) -> dict[str, str]:
    """The cassettes by their names."""
    return {path.name: path.read_text() for path in sorted(pytester.path.rglob("*.json"))}


def test_recorded_once_and_played_without_a_model(pytester: pytest.Pytester, llm: Any):
    """Each call is paid once; afterwards the tests pass from their files, in every mode but all."""
    pytester.makepyfile(test_inner=INNER + CALLS)
    run(pytester, passed=3)
    assert llm.calls == 4
    recorded = files(pytester)
    assert len(recorded) == 3 and recorded["test_sync.json"].count('"function": "test_') == 2
    assert {path.parent.name for path in pytester.path.rglob("*.json")} == {"test_inner"}
    assert '"age": 36' in recorded["test_sync.json"]
    assert not [text for text in recorded.values() if "canary" in text]
    llm.__exit__()
    for mode in ("once", "none"):
        run(pytester, f"--instructor-cassette={mode}", passed=3)
    run(pytester, "--instructor-cassette=all", "--tb=no", failed=3)
    assert {n: INCOMPLETE.sub("", t) for n, t in files(pytester).items()} == recorded
    run(pytester, "--instructor-cassette=none", passed=3)
    assert llm.calls == 4


INCOMPLETE = re.compile('  "incomplete": ".*",\n')


def test_all_records_anew_and_changes_only_what_is_new(pytester: pytest.Pytester, llm: Any):
    """Unused answers disappear; others that differ in ids and times alone stay as they are."""
    pytester.makepyfile(test_inner=INNER + CALLS)
    run(pytester, passed=3)
    recorded = files(pytester)
    run(pytester, "--instructor-cassette=all", passed=3)
    assert llm.calls == 8
    assert files(pytester) == recorded
    edited = CALLS.replace("Bob is 41. Eve is 29", "Ida is 29. Eve is 29")
    pytester.makepyfile(test_inner=INNER + edited)
    run(pytester, "--instructor-cassette=all", "-k", "sync", passed=1, deselected=2)
    text = files(pytester)["test_sync.json"]
    assert "Ida" in text and "Bob" not in text and '"name": "Ada"' in text


CALL = """
def test_call(instructor_cassette):
    assert extract({text!r}).age == {age}
    assert instructor_cassette.played == 1
"""


@pytest.mark.parametrize("mode", ["once", "none"])
def test_a_call_that_is_not_recorded_shows_what_differs(
    mode: str, pytester: pytest.Pytester, llm: Any
):
    """The function is not called: the error has its name, the key, the difference, the remedy."""
    pytester.makepyfile(test_inner=INNER + CALL.format(text="Ada is 36", age=36))
    run(pytester, failed=1)  # it was recorded, not played
    run(pytester, passed=1)
    recorded = files(pytester)
    pytester.makepyfile(test_inner=INNER + CALL.format(text="Ada is 37", age=37))
    done = run(pytester, f"--instructor-cassette={mode}", failed=1)
    path = os.path.join("cassettes", "test_inner", "test_call.json")
    done.stdout.fnmatch_lines(
        [
            f"E *CacheMiss: *call of test_inner.extract, *while its answers are played from {path}",
            "E * key: instructor:test_inner.extract:*",
            "E * the only stored call: instructor:test_inner.extract:*",
            "E * text:",
            "E * - 'Ada is 36'",
            "E * + 'Ada is 37'",
            "E * to record the test anew, run it with --instructor-cassette=all*",
        ]
    )
    assert llm.calls == 1
    assert files(pytester) == recorded


def test_a_call_of_a_function_that_moved_is_pointed_out(tmp_path: Path):
    """To another module, with its cassette: that one holds the call, of a function elsewhere."""
    path = tmp_path / "x.json"
    cached = instructor_cache(MemoryCache())(answer)
    with Cassette(path).playing():
        cached("a")
    path.write_text(path.read_text().replace(f"{__name__}.answer", "old.place.answer"))
    moved = pytest.raises(CacheMiss, match=r"holds this call of old\.place\.answer: was a module")
    with moved, Cassette(path).playing():
        cached("a")
    with pytest.raises(CacheMiss) as caught, Cassette(path).playing():
        cached("b")
    assert "old.place" not in str(caught.value)
    with pytest.raises(CacheMiss) as caught, Cassette(path).playing():
        instructor_cache(MemoryCache(), version="2")(answer)("a")
    assert "old.place" in str(caught.value)
    path.write_text(path.read_text().replace("old.place.answer", f"{__name__}.answer"))
    with pytest.raises(CacheMiss) as caught, Cassette(path).playing():
        instructor_cache(MemoryCache(), version="2")(answer)("a")
    assert "was a module" not in str(caught.value)


def test_no_other_place_is_named_where_the_function_has_calls(tmp_path: Path):
    """One of that name in another module is another function then, not where it was."""
    path = tmp_path / "x.json"
    cached = instructor_cache(MemoryCache())(answer)
    with Cassette(path).playing():
        cached("a"), cached("b")
    page = json.loads(path.read_text())
    first = page["entries"][0]
    first["key"] = first["key"].replace(f"{__name__}.answer", "other.place.answer")
    path.write_text(json.dumps(page))
    with pytest.raises(CacheMiss) as caught, Cassette(path).playing():
        cached("a"), cached("b")  # one of them
    assert "other.place" not in str(caught.value)


def test_none_calls_nothing_without_a_file(pytester: pytest.Pytester, llm: Any):
    """Where nothing was recorded yet, the error says so, and no file is made."""
    pytester.makeini("[pytest]\ninstructor_cassette = none")
    pytester.makepyfile(test_inner=INNER + CALLS)
    done = run(pytester, "-k", "sync", failed=1, deselected=2)
    done.stdout.fnmatch_lines(
        [
            "E *CacheMiss*in mode none, and there is no *test_sync.json (was the test renamed*",
            "E *nothing is stored for this function",
            'E *to record it, run it in mode "once"',
        ]
    )
    assert (llm.calls, files(pytester)) == (0, {})
    run(pytester, "--instructor-cassette=once", passed=3)
    pytester.makeini("[pytest]\ninstructor_cassette = never")
    done = pytester.runpytest_inprocess("-p", "pytest_instructor_cache")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: *must be one of once, none, all*"])


def test_an_answer_corrected_by_hand_is_given(pytester: pytest.Pytester, llm: Any):
    """What stands in the file is the answer; if it does not fit the type, the error says why."""
    pytester.makepyfile(test_inner=INNER + CALL.format(text="Ada is 36", age=63))
    run(pytester, failed=1)
    (path,) = pytester.path.rglob("*.json")
    text = path.read_text()
    path.write_text(text.replace('"age": 36', '"age": 63', 1))
    run(pytester, passed=1)
    path.write_text(text.replace('"age": 36', '"age": "many"', 1))
    done = run(pytester, failed=1)
    done.stdout.fnmatch_lines(
        ["E *BrokenCassette: cassettes*test_call.json: found an answer of test_inner.extract that*"]
    )
    done.stdout.fnmatch_lines(["E *valid integer*"])
    path.write_text(text.replace('"entries"', '"entres"'))
    done = run(pytester, errors=1)
    done.stdout.fnmatch_lines(["*test_call.json, line 1: found no list*instructor-cassette=all*"])
    assert "entres" in path.read_text()
    assert llm.calls == 1


FAILS = """
def test_fails(instructor_cassette):
    assert extract("Ada is 36").age == 36
    assert os.environ.get("RIGHT"), "not yet"
    assert extract("Bob is 41").age == 41
"""


SUBTESTS = """
import unittest

def test_fails(instructor_cassette, subtests):
    with subtests.test("some"):
        assert extract("Ada is 36").age == 36
        assert os.environ.get("RIGHT"), "not yet"
        assert extract("Bob is 41").age == 41

@pytest.mark.usefixtures("instructor_cassette")
class TestFails(unittest.TestCase):
    def test_fails(self):
        with self.subTest("some"):
            assert extract("Ada is 36").age == 36
            assert os.environ.get("RIGHT"), "not yet"
            assert extract("Bob is 41").age == 41
"""


def test_a_failing_subtest_leaves_a_cassette_incomplete(
    pytester: pytest.Pytester, llm: Any, monkeypatch: pytest.MonkeyPatch
):
    """The test itself may count as passed: what its subtest has not asked is recorded later."""
    pytester.makepyfile(test_inner=INNER + SUBTESTS)
    pytester.runpytest_inprocess("-p", "pytest_instructor_cache", "-q")
    assert ["incomplete" in text for text in files(pytester).values()] == [True, True]
    monkeypatch.setenv("RIGHT", "1")
    for _ in range(2):
        done = pytester.runpytest_inprocess("-p", "pytest_instructor_cache", "-q")
        assert done.ret == pytest.ExitCode.OK
    assert llm.calls == 4
    assert ["incomplete" in text for text in files(pytester).values()] == [False, False]


def test_a_failing_test_keeps_what_it_paid_for(
    pytester: pytest.Pytester, llm: Any, monkeypatch: pytest.MonkeyPatch
):
    """The answers before the failure are played the next time, and the rest is recorded then."""
    pytester.makepyfile(test_inner=INNER + FAILS)
    for _ in range(2):
        run(pytester, failed=1)
        assert llm.calls == 1
        assert "incomplete" in files(pytester)["test_fails.json"]
    pytester.makepyfile(test_inner=INNER + FAILS.replace("Ada is 36", "Ida is 36"))
    run(pytester, failed=1)
    assert "Ada" in files(pytester)["test_fails.json"]
    monkeypatch.setenv("RIGHT", "yes")
    run(pytester, "--instructor-cassette=none", failed=1)
    run(pytester, passed=1)
    assert llm.calls == 3
    text = files(pytester)["test_fails.json"]
    assert "incomplete" not in text and "Ada" not in text  # as no test asks it
    run(pytester, "--instructor-cassette=none", passed=1)


MODES = """
from instructor_cache import bypass, refresh

def test_modes(instructor_cassette):
    with bypass():
        extract("Ada is 36")
    with refresh():
        extract("Bob is 41")
    extract.cache_refresh("Eve is 29")
"""


def test_what_goes_past_the_cache_is_recorded_too(pytester: pytest.Pytester, llm: Any):
    """Code that uses bypass() or refresh() is played as well: nothing gets to the model."""
    pytester.makepyfile(test_inner=INNER + MODES)
    run(pytester, passed=1)
    llm.__exit__()
    run(pytester, "--instructor-cassette=none", passed=1)
    assert llm.calls == 3


CLIENT = """
import asyncio, os
import instructor
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from instructor_cache import MemoryCache, cache_client

class User(BaseModel):
    name: str
    age: int

def settings(name):
    keys = {"base_url": os.environ["LLM_URL"], "max_retries": 0}
    return keys | {"api_key": os.environ[name], "organization": "org-" + os.environ[name]}

def ask(client, text, **options):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(
        model="local", response_model=User, messages=messages, **options
    )

def test_client(instructor_cassette):
    answers = []
    for name in ("ONE", "ONE", "OTHER"):
        with OpenAI(**settings(name)) as openai:
            client = cache_client(instructor.from_openai(openai), MemoryCache(), namespace=name)
            answers.append(ask(client, "Ada is 36\\nand a poet"))
    assert answers == [User(name="Ada", age=36)] * 3

async def twice():
    async with AsyncOpenAI(**settings("ONE")) as openai:
        client = cache_client(instructor.from_openai(openai), MemoryCache())
        return [await ask(client, "Bob is 41") for _ in range(2)]

def test_async_client(instructor_cassette):
    assert asyncio.run(twice()) == [User(name="Bob", age=41)] * 2
"""


def test_clients_are_played_whoever_has_the_key(
    pytester: pytest.Pytester, llm: Any, monkeypatch: pytest.MonkeyPatch
):
    """Neither credentials nor servers count in a test: who plays it has others."""
    monkeypatch.setenv("ONE", "canary-one")
    monkeypatch.setenv("OTHER", "canary-other")
    pytester.makepyfile(test_inner=CLIENT)
    run(pytester, passed=2)
    assert llm.calls == 3
    assert not [text for text in files(pytester).values() if "canary" in text]
    llm.__exit__()
    monkeypatch.setenv("ONE", "none")
    monkeypatch.setenv("OTHER", "nothing")
    monkeypatch.setenv("LLM_URL", "http://127.0.0.1:9/v1")  # the server has another address now
    run(pytester, "--instructor-cassette=none", passed=2)


def test_what_can_not_be_played_is_told_while_recording(tmp_path: Path):
    """A function's error, also in mid-stream, is told once, stands in the file and in the miss."""

    @instructor_cache(MemoryCache())
    def ask(text: str) -> User:
        if text == "bad":
            raise ValueError(text)
        return User(name=text)

    @instructor_cache(MemoryCache())
    def stream(text: str) -> Iterator[User]:
        yield User(name=text)
        raise LookupError

    path = tmp_path / "x.json"
    told = pytest.warns(CassetteWarning, match=r"ask raised ValueError; .*stream raised LookupErr")
    with told as warned, Cassette(path).playing():
        ask("good")
        with suppress(ValueError):
            ask("bad")
        with suppress(LookupError):
            list(stream("a"))
    assert len(warned) == 1 and '"raised ValueError"' in path.read_text()
    miss = pytest.raises(CacheMiss, match="recorded this call raised ValueError, and that is not")
    with Cassette(path).playing(), miss as caught:
        ask("bad")
    assert "anew" not in str(caught.value)


def test_what_is_no_key_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Words that begin like keys, and the folder in PWD, make no test unplayable."""
    monkeypatch.setenv("PWD", "/home/somebody")
    texts = ["hotels/sk-bratislava-centre", "sk-learn-pipelines", "/home/somebody/x", "Basic rules"]
    with Cassette(tmp_path / "x.json").playing() as cassette:
        for text in texts:
            instructor_cache(MemoryCache())(answer)(text)
    assert cassette.recorded == len(texts)
    assert all(text in cassette.path.read_text() for text in texts)


AWKWARD = ['plain"loo\\king', "it's\nsécret—ünïcode", "日本語の秘密の言葉", "p@ss/word+x=1"]


class Bytes(BaseModel):
    data: bytes


@pytest.mark.parametrize("secret", AWKWARD, ids=range(len(AWKWARD)))
def test_no_form_of_a_secret_is_written(
    secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither across the place where a text is shortened, nor quoted twice, nor in base64."""
    monkeypatch.setenv("DB_PASSWORD", secret)
    monkeypatch.setenv("OTHER_TOKEN", secret + " and more")

    @instructor_cache(MemoryCache())
    def ask(text: str, *rest: Any) -> Bytes:
        return Bytes(data=text.encode() if text.startswith("!") else b"fine")

    path = tmp_path / "x.json"
    with Cassette(path).playing():
        for before in range(1380, 1520, 5):
            ask("x" * before + f" {secret} and more " + "y" * 4000)
        ask("a", json.dumps([json.dumps({"a": f"'{secret}'"}, ensure_ascii=False)]), [repr(secret)])
    file = read(path.read_bytes(), "x")
    shown = json.dumps([block.call for block in file.blocks.values()], ensure_ascii=False)
    for part in (secret[:5], secret[-5:], "and more"):
        assert part not in shown and part not in path.read_text()
    told = pytest.warns(CassetteWarning, match="holds the value of the environment variable")
    with told, Cassette(tmp_path / "y.json").playing():
        ask("! " + secret)
    assert not (tmp_path / "y.json").exists()
    assert "***" not in path_beside(Path("t.py"), f"t[{secret}]").name
    assert secret[:5] not in str(path_beside(Path("t.py"), f"t[{secret}]"))


def test_who_plays_has_other_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A miss hides them as the file does, and says of an argument that has one no difference."""

    @instructor_cache(MemoryCache())
    def ask(text: str, login: str) -> User:
        return User(name=text)

    messages: list[str] = []
    for word, secret in (("old", "canary-one-1"), ("new", "canary-two-2")):
        monkeypatch.setenv("DB_PASSWORD", secret)
        with suppress(CacheMiss), Cassette(tmp_path / "x.json").playing():
            try:
                ask(f"the {word} prompt", f"login with {secret}")
            except CacheMiss as error:
                messages.append(str(error))
    assert "can't be told, being masked: login" in messages[0] and "login:" not in messages[0]
    assert "canary" not in messages[0] and "+ 'the new prompt'" in messages[0]


def test_long_prompts_are_shown_as_text(tmp_path: Path):
    """Lines are lines, numbers numbers; a word in the middle that has changed is in the miss."""

    @instructor_cache(MemoryCache())
    def ask(messages: list[dict[str, Any]], options: dict[str, Any]) -> User:
        return User(name="x")

    def prompt(word: str) -> list[dict[str, Any]]:
        lines = [f"Line {n}: some instruction that a prompt has — é" for n in range(15)]
        text = "\n".join([*lines, f"The word is {word} here", *lines])
        return [{"role": "system", "content": text}, {"role": "user", "content": "x" * 5000}]

    path, options = tmp_path / "x.json", {"temperature": 0.2, "api_key": "hush", "who": User}
    with Cassette(path).playing():
        ask(prompt("alpha"), options)
    call = json.loads(path.read_text())["entries"][0]["call"]
    assert call["messages"][0]["content"]["$lines"][15] == "The word is alpha here"
    masked, other = {"$repr": "***"}, {"$repr": "User"}
    assert call["options"] == {"temperature": 0.2, "api_key": masked, "who": other}
    assert 1_900 < len(call["messages"][1]["content"]) <= 2_000
    with pytest.raises(CacheMiss) as caught, Cassette(path).playing():
        ask(prompt("omega"), options)
    lines = str(caught.value).splitlines()
    (before,), (after,) = ([x for x in lines if sign in x[:8]] for sign in "-+")
    assert "alpha" in before and "omega" in after and len(before) + len(after) < 300


def test_a_directory_in_place_of_a_file_is_told(tmp_path: Path):
    """The error names it, in every mode."""
    for mode in ("once", "all"):
        with pytest.raises(BrokenCassette, match="found a directory, wanted a file"):
            Cassette(tmp_path, mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("edit", [('"age": 0', '"agee": 9'), ('"age": 0', '"age": 0, "age": 1')])
def test_a_slip_of_the_hand_is_an_error(edit: tuple[str, str], tmp_path: Path):
    """A member that the type does not have, or one that is there twice, is no silent default."""
    path = tmp_path / "x.json"

    @instructor_cache(MemoryCache())
    def ask() -> list[User]:
        return [User(name="x", age=0)]

    with Cassette(path).playing():
        ask()
    path.write_text(path.read_text().replace(*edit))
    with pytest.raises(BrokenCassette, match=r'"agee?"'), Cassette(path).playing():
        ask()


def test_no_answer_as_it_was_recorded_looks_mistaken():
    """Answers of every shape have no member that their type does not know."""
    for shape in SHAPES:
        with suppress(Unstorable, TypeError):
            codec = codec_for(shape.annotation)
            for value in shape.values:
                assert unknown(codec, codec.encode(value)) == [], shape.name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_says_that_nothing_is_recorded(tmp_path: Path):
    """Its answers are lost to the file, and it is told; those of its parent are kept."""
    ask, warned = numbered([]), tmp_path / "warned"
    with Cassette(tmp_path / "x.json").playing() as cassette:
        ask("a")
        if (child := os.fork()) == 0:
            try:
                with pytest.warns(CassetteWarning, match="was forked"):
                    ask("b")
                warned.touch()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert warned.exists() and cassette.recorded == 1


def test_the_plugin_costs_nothing_until_it_is_used():
    """pytest imports neither pydantic nor this package for the plugin's sake."""
    code = (
        "import sys, pytest_instructor_cache; "
        "print({'pydantic', 'instructor_cache'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
