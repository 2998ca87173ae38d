"""`version=source_version` follows a function's own code and the constants that it reads."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from instructor_cache import source_version

BASE = '''
from pydantic import BaseModel
from instructor_cache import MemoryCache, instructor_cache, source_version

MODEL = "gpt-4o"
LIMITS = {"tokens": 10}
UNREAD = 1

class User(BaseModel):
    name: str

def helper(text):
    return text.strip()

@instructor_cache(MemoryCache(), version=source_version)
def extract(text: str) -> User:
    """Extract a user."""
    names = [f"{MODEL}{LIMITS['tokens']}" for _ in range(1)]
    return User(name=names[0] + helper(text))
'''


def loaded(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of one name that *source* is."""
    path = tmp_path / f"app{len(os.listdir(tmp_path))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("app", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "app", module)
    spec.loader.exec_module(module)
    return module


def key_of(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of one call of the function that *source* defines."""
    return str(loaded(source, tmp_path, monkeypatch).extract.cache_key("a"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    names =", "    # a comment\n\n    names ="),
        ('f"{MODEL}', "f'{MODEL}".replace("'", '"')),
        ("[0] + helper(text)", "[0]    +   helper( text )"),
        ("MemoryCache(), version", 'MemoryCache(), ttl="1h", version'),
        ("UNREAD = 1", "UNREAD = 2"),
        ("text.strip()", "text.lower()"),
        ("def helper", "X = 1\n\n\ndef helper"),
    ],
)
def test_what_does_not_count(old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Comments, formatting, decorator options and other code keep the key."""
    assert old in BASE
    assert key_of(BASE.replace(old, new), tmp_path, monkeypatch) == key_of(
        BASE, tmp_path, monkeypatch
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"gpt-4o"', '"gpt-5"'),
        ('{"tokens": 10}', '{"tokens": 11}'),
        ("range(1)", "range(2)"),
        ("Extract a user", "Extract the user"),
        ("names[0] +", "names[-1] +"),
        ("(text: str)", "(text: str, n: int = 0)"),
    ],
)
def test_what_counts(old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The body, the signature, the docstring and constants read, inner scopes too, change it."""
    assert old in BASE
    assert key_of(BASE.replace(old, new), tmp_path, monkeypatch) != key_of(
        BASE, tmp_path, monkeypatch
    )


def test_closures_count():
    """Two functions of one factory that captured different constants have different keys."""
    from pydantic import BaseModel

    from instructor_cache import MemoryCache, instructor_cache

    class User(BaseModel):
        name: str

    def make(model: str) -> Any:
        @instructor_cache(MemoryCache(), version=source_version)
        def extract(text: str) -> User:
            return User(name=model)

        return extract

    assert make("a").cache_key("x") == make("a").cache_key("x") != make("b").cache_key("x")
    assert len(make("a").cache_parameters()["version"]) == 16


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x, n=1: 1", "x, n=1: 2"),
        ("x, n=1: n", "x, n=2: n"),
        ("x: first(x)", "x: second(x)"),
        ("x: x.first", "x: x.second"),
        ("x: [1 for _ in x]", "x: [2 for _ in x]"),
        ("x: LIMIT", "x: OTHER"),
    ],
)
def test_code_without_source_has_a_version_too(one: str, other: str):
    """A function typed into a prompt is known by its compiled form, names and defaults included."""

    def made(code: str) -> Any:
        return eval(f"lambda {code}", {"LIMIT": 1, "OTHER": 2})

    assert source_version(made(one)) == source_version(made(one)) != source_version(made(other))


METHOD = '''
from instructor_cache import source_version

class Service:
    def run(self, text, limit=5):
        prompt = """
You are helpful.
"""
        return summarize(client.chat, text, prompt, {"a", "b", "c"}, limit)

print(source_version(Service.run))
'''


@pytest.mark.parametrize(
    "change",
    [
        ("summarize", "extract"),
        ("client.chat", "client.beta"),
        ("limit=5", "limit=9"),
        ("helpful", "terse"),
        ("", ""),
    ],
)
def test_a_method_with_a_prompt_at_the_margin(change: tuple[str, str], tmp_path: Path):
    """Text at column 0 inside a method does not hide changes, whatever the hash seed is."""

    def version(source: str, seed: int) -> str:
        path = tmp_path / str(seed) / "service.py"
        path.parent.mkdir()
        path.write_text(source)
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, str(path)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor() as pool:
        before, after = pool.map(version, [METHOD, METHOD.replace(*change)], [1, 2])
    assert (before == after) == (change == ("", ""))


PINNED = '''
def ask(model, *, limit: int = 3, **settings):
    """Ask."""
    given = {k: v for k, v in settings.items() if (k, v) != ("a", None)}
    name = f"{model!r:>{limit}}" "-app " f"{limit=} {given['m']}" ""
    return (lambda: [x for (x, *y), z in given])(), [i for i in name[1:2, ...]], *given
'''


def test_every_python_makes_the_same_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Comprehensions, lambdas and f-strings too are written down in a way of our own."""
    module = loaded(PINNED, tmp_path, monkeypatch)
    assert source_version(module.ask) == "8220889445728ebc"
