"""Thirty-six passages, read four times; the model is paid for two of them.

    make demo

The real `instructor` client over the real `openai` SDK, over HTTP. With ``OPENAI_API_KEY`` set it
talks to OpenAI (72 small calls: less than one cent), else to a local server that answers by rule.
Ends with exit status 0 if every pass hit and missed as it should.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import instructor
from _screen import Screen
from local_llm import LocalLLM
from openai import OpenAI
from openai.types import CompletionUsage
from pydantic import BaseModel, create_model

from instructor_cache import CacheMetrics, DiskCache, instructor_cache

MODEL = "gpt-4o-mini"
PRICE_IN, PRICE_OUT = 0.15, 0.60  # dollars for a million tokens, openai.com/api/pricing in 2025
PASSAGES = (Path(__file__).parent / "data" / "passages.txt").read_text("utf-8").split("\n\n")
PASSES = ("the first time", "again", "in a new process", "with a new field")

Told = Callable[[str], None]


class Moment(BaseModel):
    """What a passage tells: who was where, and when."""

    who: list[str]
    where: list[str]
    when: str

    def __str__(self) -> str:
        return " · ".join([self.when, *self.who, *self.where])


def moment_with_a_year() -> type[Moment]:
    """Give `Moment` as a later release may define it: the same, and one field more."""
    return create_model("Moment", __base__=Moment, __module__=Moment.__module__, year=(int, ...))


def price(usage: CompletionUsage) -> float:
    """Give what one call costs, in dollars."""
    return (usage.prompt_tokens * PRICE_IN + usage.completion_tokens * PRICE_OUT) / 1e6


@dataclass
class Result:
    """How one pass over all passages went."""

    hits: int = 0
    misses: int = 0
    calls: int = 0
    seconds: float = 0.0
    seconds_saved: float = 0.0
    dollars: float = 0.0
    dollars_saved: float = 0.0
    answers: list[dict[str, Any]] = field(default_factory=list)


def cached_reader(
    client: instructor.Instructor, folder: str, shape: type[Moment], metrics: CacheMetrics
) -> Callable[[str], tuple[Moment, CompletionUsage]]:
    """Give the function that this is all about: paid for once, remembered on disk."""

    # The usage is remembered with the moment, so a hit knows what it saved.
    @instructor_cache(DiskCache(folder), returns=tuple[shape, CompletionUsage], observer=metrics)
    def read(passage: str) -> tuple[Moment, CompletionUsage]:
        moment, completion = client.chat.completions.create_with_completion(
            model=MODEL,
            response_model=shape,
            messages=[{"role": "user", "content": passage}],
        )
        return moment, completion.usage

    return read


def read_all(folder: str, shape: type[Moment], told: Told = lambda _: None) -> Result:
    """Read every passage, and tell each answer as it comes."""
    client, metrics = instructor.from_openai(OpenAI()), CacheMetrics()
    completions: list[Any] = []
    client.on("completion:response", completions.append)
    read = cached_reader(client, folder, shape, metrics)
    result, start = Result(), time.perf_counter()
    for passage in PASSAGES:
        paid = len(completions)
        moment, usage = read(passage)
        result.dollars_saved += price(usage) if len(completions) == paid else 0
        result.answers.append(moment.model_dump())
        told(str(moment))
    result.seconds, result.seconds_saved = time.perf_counter() - start, metrics.total_time_saved
    result.hits, result.misses, result.calls = metrics.hits, metrics.misses, len(completions)
    result.dollars = sum(price(completion.usage) for completion in completions)
    return result


def read_all_in_a_new_process(folder: str) -> Result:
    """Do the same in another Python, which knows nothing but the folder."""
    command = [sys.executable, __file__, "--read-with-cache", folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Result(**json.loads(done.stdout))


def paid_for(result: Result) -> bool:
    """Tell whether every miss was paid for, and no hit."""
    # instructor may ask again for an answer that does not fit: more calls than misses are right.
    return result.calls >= result.misses if result.misses else result.calls == 0


def mistakes(results: list[Result], total: int) -> list[str]:
    """Give what the four passes did wrong, in sentences; nothing is the good news."""
    first, again, new_process, _ = results
    expected = (0, total), (total, 0), (total, 0), (0, total)
    wrong = [
        f"{name}: expected {want[0]} hits and {want[1]} misses, "
        f"found {result.hits} and {result.misses}, and {result.calls} paid calls"
        for name, result, want in zip(PASSES, results, expected, strict=True)
        if (result.hits, result.misses) != want or not paid_for(result)
    ]
    if not first.answers == again.answers == new_process.answers:
        wrong.append("a hit differs from the answer that was paid for")
    return wrong


def run(screen: Screen, folder: str) -> list[Result]:
    """Read everything four times, with the one folder to remember it by."""
    reads: list[Callable[[Told], Result]] = [
        lambda told: read_all(folder, Moment, told),
        lambda told: read_all(folder, Moment, told),
        lambda _: read_all_in_a_new_process(folder),
        lambda told: read_all(folder, moment_with_a_year(), told),
    ]
    return [screen.run(name, read) for name, read in zip(PASSES, reads, strict=True)]


@contextmanager
def provider(delay: float) -> Iterator[str]:
    """Have somebody to ask, for this process and the new one; give a name for them."""
    if os.environ.get("OPENAI_API_KEY"):
        yield f"OpenAI's {MODEL}"
        return
    with LocalLLM(delay) as llm:
        os.environ.update(OPENAI_BASE_URL=llm.url, OPENAI_API_KEY="none")
        yield "a local server"


def main() -> int:
    """Show the four passes; give 0 if they went as they should, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=0.2, help="of the local server, in seconds")
    parser.add_argument("--read-with-cache", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read_with_cache:  # we are the new process
        print(json.dumps(asdict(read_all(options.read_with_cache, Moment))))
        return 0
    sys.stdout.reconfigure(errors="replace")  # for a terminal that can't draw the bars
    with provider(options.delay) as name, TemporaryDirectory() as folder:
        title = f"{len(PASSAGES)} passages of history, read four times by {name}"
        with Screen(title, PASSES, total=len(PASSAGES)) as screen:
            results = run(screen, folder)
        wrong = mistakes(results, len(PASSAGES))
        screen.conclude(results, wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
