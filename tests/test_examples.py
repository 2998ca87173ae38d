"""Every example runs, as a program of its own, and says what it promises."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import instructor
import pytest
from openai import OpenAI
from programs import EXAMPLES, Runner
from pydantic import BaseModel
from redis_server import free_port
from test_other_clients import RECIPES

TESTED_APART = {"demo", "local_llm", *RECIPES}
PROGRAMS = {path.stem for path in EXAMPLES.glob("[!_]*.py")} - TESTED_APART

# What each must print, beside ending well; an example that is not here fails.
SAYS: dict[str, list[str]] = {
    "async_redis": ["name='Jason', age=25", "1 paid of 2 calls"],
    "batch": ["30 answers, twice", "3 paid calls"],
    "cost_analysis": ["Monthly savings: $420.00 (70.0%)", "10 calls, 1 paid"],
    "disk_cache": ["2 paid calls, one for each cache"],
    "hierarchical": ["stacked:", "tiered:", "now in memory", "2 paid of 6 calls"],
    "memory": ["CacheInfo(hits=1, misses=1, maxsize=1000, currsize=1, max_bytes="],
    "metrics": ["hit_rate: 60.00%", "total_hits: 3", "time_saved_seconds: "],
    "redis_cache": ["1 paid of 2 calls", "under examples:redis_cache.extract:"],
    "robust": ["survived broken: OSError", "survived redis: ConnectionError", "no tier works"],
    "smart_invalidation": ["age=25); 1 paid so far", "city='Lisbon'); 2 paid so far"],
    "streaming": [
        "4 snapshots, then [UserDetail(name='Jason', age=25)], 1 paid of 2 calls",
        "annotate it `-> Iterator[UserDetail]`",
        "4 snapshots, then 4, 2 paid so far",
        "who asks now: ['Jason', 'Sarah']",
        "and later: ['Jason', 'Sarah'], 3 paid so far",
    ],
    "ttl_table": ["user_profiles: hit, 3,600 seconds", "never_stored: miss"],
    "warming": ["warmed 2 of 3 queries with 2 paid calls", "0 paid when asked"],
}


@pytest.fixture
def runner(tmp_path: Path, redis_url: str) -> Runner:
    """Examples in an empty folder, with a Redis."""
    return Runner(tmp_path, redis_url)


WITHOUT_REDIS = ["async_redis", "hierarchical", "redis_cache"]


@dataclass
class Ending:
    """What an example printed, its errors, and the files that it left in its folder."""

    out: str
    err: str
    left: list[Path]


class Programs:
    """Examples that run at the same time."""

    def __init__(self, pool: ThreadPoolExecutor, folders: pytest.TempPathFactory) -> None:
        self._pool, self._folders = pool, folders
        self._options: dict[str, tuple[str, ...]] = {}
        self._running: dict[tuple[str, str], Future[Ending]] = {}

    def start(self, redis_url: str, name: str, *options: str) -> None:
        """Start it, with a folder of its own, as soon as its turn comes."""
        folder = self._folders.mktemp(name)
        self._options[name] = options

        def run() -> Ending:
            out, err = Runner(folder, redis_url).run(name, *options)
            return Ending(out, err, list(folder.iterdir()))

        self._running[name, redis_url] = self._pool.submit(run)

    def ending(self, redis_url: str, name: str) -> Ending:
        """Give how it ended, or raise what went wrong; who tries again has it run again."""
        if (name, redis_url) not in self._running:
            self.start(redis_url, name, *self._options[name])
        return self._running.pop((name, redis_url)).result()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Runs as many programs at a time as there are processors, of which few may be ours."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def programs(
    pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory, redis_server_url: str
) -> Programs:
    """All examples, begun."""
    programs = Programs(pool, tmp_path_factory)
    programs.start(redis_server_url, "demo", "--delay", "0")  # it takes longest
    for name in sorted(PROGRAMS):
        programs.start(redis_server_url, name)
    return programs


@pytest.fixture(scope="module")
def nobody() -> str:
    """Where Redis should be, and is not."""
    return f"redis://127.0.0.1:{free_port()}/0"


@pytest.fixture(scope="module")
def programs_without_redis(
    pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory, nobody: str
) -> Programs:
    """Those that want a Redis, begun without one."""
    programs = Programs(pool, tmp_path_factory)
    for name in WITHOUT_REDIS:
        programs.start(nobody, name)
    return programs


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports an example's module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return import_module


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_an_example_keeps_its_promise(programs: Programs, redis_url: str, name: str) -> None:
    """An example ends with status 0, prints what it is about, and complains of nothing."""
    ending = programs.ending(redis_url, name)
    assert [line for line in SAYS[name] if line not in ending.out] == []
    assert ending.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_REDIS)
def test_an_example_answers_without_redis(
    programs_without_redis: Programs, nobody: str, name: str
) -> None:
    """An example that wants Redis says that there is none, and has its answers all the same."""
    out = programs_without_redis.ending(nobody, name).out
    assert "Redis can't be reached" in out
    assert "name='Jason'" in out


def test_the_demo_shows_four_passes_and_cleans_up(programs: Programs, redis_url: str) -> None:
    """The demo's table tells the hits and misses of each pass; of its cache nothing is left."""
    ending = programs.ending(redis_url, "demo")
    assert re.findall(r"━ +(\d+) +(\d+)", ending.out) == [
        ("0", "36"),
        ("36", "0"),
        ("36", "0"),
        ("0", "36"),
    ]
    assert "72 of 144 answers came from the cache" in ending.out
    assert ending.err == ""
    assert ending.left == []


class TestMistakes:
    """The demo's verdict on its own four passes."""

    @pytest.fixture
    def demo(self, example: Callable[[str], Any]) -> Any:
        return example("demo")

    @staticmethod
    def passes(demo: Any) -> list[Any]:
        paid, free = {"misses": 3, "calls": 3}, {"hits": 3}
        return [
            demo.Result(**counts, seconds=1, answers=[{"a": 1}])
            for counts in (paid, free, free, paid)
        ]

    def test_finds_none_in_a_good_run(self, demo: Any) -> None:
        """Misses, hits, hits, misses are no mistake."""
        assert demo.mistakes(self.passes(demo), 3) == []

    @pytest.mark.parametrize("number", range(4))
    @pytest.mark.parametrize("count", ["hits", "misses"])
    def test_finds_a_wrong_count(self, demo: Any, number: int, count: str) -> None:
        """One hit or miss too many, in any pass, is one mistake that names the pass."""
        passes = self.passes(demo)
        setattr(passes[number], count, getattr(passes[number], count) + 1)
        (mistake,) = demo.mistakes(passes, 3)
        assert mistake.startswith(f"{demo.PASSES[number]}: ")

    @pytest.mark.parametrize(("number", "calls"), [(0, 2), (1, 1), (2, 1), (3, 0)])
    def test_finds_a_wrong_bill(self, demo: Any, number: int, calls: int) -> None:
        """A miss that nobody paid for is a mistake, and a hit that somebody did."""
        passes = self.passes(demo)
        passes[number].calls = calls
        (mistake,) = demo.mistakes(passes, 3)
        assert mistake.endswith(f"and {calls} paid calls")

    def test_lets_the_model_be_asked_again(self, demo: Any) -> None:
        """An answer that did not fit its model, and was asked for twice, is no mistake."""
        passes = self.passes(demo)
        passes[0].calls = 5
        assert demo.mistakes(passes, 3) == []

    @pytest.mark.parametrize("number", [1, 2])
    def test_finds_a_wrong_answer(self, demo: Any, number: int) -> None:
        """A hit that differs from the paid answer is a mistake."""
        passes = self.passes(demo)
        passes[number].answers = [{"a": 2}]
        assert demo.mistakes(passes, 3) == ["a hit differs from the answer that was paid for"]

    @pytest.fixture
    def main(self, demo: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Any]], int]:
        """Runs the demo's main function on passes that are already there."""

        def main(passes: list[Any]) -> int:
            monkeypatch.setattr(demo, "run", lambda *_: passes)
            return demo.main()

        monkeypatch.setattr(demo, "PASSAGES", ["one", "two", "three"])
        monkeypatch.setattr(sys, "argv", ["demo.py"])
        monkeypatch.setenv("OPENAI_API_KEY", "not used")
        return main

    def test_ends_the_demo_with_status_1(
        self, demo: Any, main: Callable[[list[Any]], int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A demo whose second pass pays again ends with 1 and says so."""
        first, _, *others = self.passes(demo)
        assert main([first, first, *others]) == 1
        assert "✗ again: expected 3 hits" in capsys.readouterr().out

    def test_needs_no_special_characters(
        self, demo: Any, main: Callable[[list[Any]], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the bars and the tick can't be written, the demo ends well without them."""
        terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(self.passes(demo)) == 0
        assert b"? 6 of 12 answers came from the cache" in terminal.buffer.getvalue()


class Person(BaseModel):
    name: str
    age: int


class Life(BaseModel):
    who: list[str]
    where: str | None
    year: int | None
    seasick: bool
    people: list[Person]


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])
def test_the_local_model_fills_a_schema(
    example: Callable[[str], Any], mode: instructor.Mode
) -> None:
    """The local model reads nested fields out of a text, in either mode, and counts its calls."""
    text = "Mary is 25 years old and seasick. Anne is 40 years old and left Lyme in 1823."
    with (
        example("local_llm").LocalLLM(delay=0) as llm,
        OpenAI(base_url=llm.url, api_key="none") as openai,
    ):
        client = instructor.from_openai(openai, mode=mode)
        life = client.chat.completions.create(
            model="any", response_model=Life, messages=[{"role": "user", "content": text}]
        )
        assert llm.calls == 1
    assert (life.who, life.where, life.year, life.seasick) == (["Mary", "Anne"], None, 1823, True)
    assert life.people == [Person(name="Mary", age=25), Person(name="Anne", age=40)]


def test_the_local_model_finds_who_where_and_when_in_every_passage(
    example: Callable[[str], Any],
) -> None:
    """No passage of the demo leaves the rules without a person, a place and a date."""
    reading, demo = example("_reading"), example("demo")
    readings = [reading.Reading(" ".join(text.split())) for text in demo.PASSAGES]
    assert len(readings) == 36
    assert [r for r in readings if not (r.people and r.places and r.dates)] == []


def test_the_local_model_is_a_program(runner: Runner) -> None:
    """Started by itself it prints its address, serves, and on Ctrl-C tells its calls."""
    with runner.start("local_llm", "--port", "0", "--delay", "0") as program:
        assert program.stdout is not None
        url = program.stdout.readline().removeprefix("base_url: ").strip()
        with OpenAI(base_url=url, api_key="none") as openai:
            client = instructor.from_openai(openai)
            person = client.chat.completions.create(
                model="any",
                response_model=Person,
                messages=[{"role": "user", "content": "Jason is 25 years old"}],
            )
        try:
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=30)
        finally:
            program.kill()  # or the end of the block would wait for it for ever
    assert (person.name, person.age) == ("Jason", 25)
    assert (program.returncode, out, err) == (0, "calls answered: 1\n", "")


def test_the_local_model_streams_what_it_answers(example: Callable[[str], Any]) -> None:
    """A streamed answer comes in pieces, which joined are the answer that comes whole."""
    ask: dict[str, Any] = {
        "model": "any",
        "messages": [{"role": "user", "content": "Jason is 25 years old"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "Person"}},
    }
    ask["response_format"]["json_schema"]["schema"] = Person.model_json_schema()
    with (
        example("local_llm").LocalLLM(delay=0) as llm,
        OpenAI(base_url=llm.url, api_key="none") as openai,
    ):
        whole = openai.chat.completions.create(**ask).choices[0].message.content
        stream = openai.chat.completions.create(**ask, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert llm.calls == 2
    assert len(pieces) > 3
    assert "".join(pieces) == whole == '{"name": "Jason", "age": 25}'


def test_the_local_model_makes_up_no_recording(example: Callable[[str], Any]) -> None:
    """A message for Anthropic that is not on record is refused, not answered by rule."""
    recall = example("_apis").recall
    message = {"role": "user", "content": "Jason is 25 years old"}
    request = {"model": "claude-haiku-4-5", "max_tokens": 256, "messages": [message]}
    assert recall(request)["content"][0]["text"] == '{"name":"Jason","age":25}'
    with pytest.raises(example("_apis").NotRecorded, match="no answer is on record"):
        recall(request | {"messages": [{"role": "user", "content": "Jason is 26 years old"}]})
