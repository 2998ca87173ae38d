"""The readable form of a call: short, without secrets, the same everywhere, of anything at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import golden
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from instructor_cache import DiskCache, Entry, MemoryCache, atransfer, instructor_cache, transfer
from instructor_cache._sketch import read, sketch

MOST = 2_000  # bytes


class User(BaseModel):
    name: str


class Login(BaseModel):
    """Two secrets by their names, one by its type, one that its author keeps out of texts."""

    user: str
    password: str
    pin: int = 1234
    key: SecretStr = SecretStr("hush")
    note: str = Field("hush", repr=False)


class Awkward:
    """Fails whenever it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


class AwkwardModel(User):
    def __repr__(self) -> str:
        raise RuntimeError


def shown(value: Any, name: str = "value") -> str:
    """The text of one argument."""
    return read(sketch({name: value}))[name][0]


def cycle() -> list[Any]:
    found: list[Any] = [1]
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ada", "'ada'"),
        (1, "1"),
        ("1", "'1'"),
        (b"x", "b'x'"),
        (bytes(100_000), "<100,000 bytes>"),
        ([10**5000], "[<a number of 16610 bits>]"),
        ({"b", "a"}, "{'a', 'b'}"),
        ({"role": "user", "n": (1, None)}, "{'role': 'user', 'n': (1, None)}"),
        ([User(name="ada")], "[User(name='ada')]"),
        (AwkwardModel(name="ada"), "AwkwardModel(name='ada')"),
        (golden.Query("q"), "Query(text='q', tags={'a', 'b'})"),
        (golden.Colour.RED, "Colour.RED"),
        (User, "User"),
        (object(), "<object>"),
        ([Awkward], "[Awkward]"),
        (set(range(5_000)), "{5,000 items}"),
        ("\ud800\n", r"'\ud800\n'"),
    ],
)
def test_values_are_readable(value: Any, text: str):
    """Values look as they would be written; of objects that hide only the class is seen."""
    assert shown(value) == text


def test_what_fails_when_it_is_looked_at_is_shown():
    """An object that raises from everything shows its class."""
    assert shown(Awkward()) == "<Awkward>" and shown([Awkward(), 1]) == "[<Awkward>, 1]"


@pytest.mark.parametrize(
    "value",
    [
        [cycle()] * 40,
        "x" * 10_000_000,
        list(range(100_000)),
        {n: str(n) for n in range(10_000)},
        [[[[[[[[[[1]]]]]]]]]] * 100,
        ["\ud800" * 500],
        "é" * 10_000,
    ],
)
def test_large_values_are_short(value: Any):
    """A text has 200 characters at most, with its beginning and its end."""
    assert len(shown(value)) <= 200 and "…" in shown(value)


def test_no_escape_is_cut():
    """However often a text is shortened, what is left of its escapes can be read."""
    for before in range(12):
        for text in ("\ud800", "\n", "\x00", "\\", "'\"\U000e0001"):
            value = "x" * before + text * 300
            for shown_value in (shown(value), *(v[0] for v in many(value).values())):
                assert isinstance(literal_eval(shown_value), str)


def many(value: str) -> dict[str, Any]:
    """The parts of a call with so many arguments that there is little room for each."""
    return read(sketch({str(n): value for n in range(30)}))


def test_many_arguments_are_short():
    """However many there are, and however they are called, they have 2,000 bytes together."""
    for count in (10, 50, 500):
        text = sketch({f"parameter_{n}" + "☃" * 100: "é" * 300 for n in range(count)})
        assert 1_000 < len(text.encode()) <= MOST and read(text)


def test_digests_tell_apart_what_texts_do_not():
    """Where the text was shortened, or shows a class only, its digest says that values differ."""
    pairs = [
        ("a" * 999 + "b" + "a" * 999, "a" * 999 + "c" + "a" * 999),
        (list(range(100)) * 10, [*range(40), -1, *range(41, 100), *list(range(100)) * 9]),
        (golden.Tenant("one"), golden.Tenant("two")),
        (bytes(100), bytes(99) + b"1"),
        ({"password": "hush", "text": "a" * 500}, {"password": "hush", "text": "a" * 501}),
    ]
    for one, other in pairs:
        (mine,), (theirs,) = (read(sketch({"v": each})).values() for each in (one, other))
        assert mine[1] != theirs[1] and len(mine[1]) == 8
    assert sketch({"v": {"a": 1, "b": 2}})[-11:] == sketch({"v": {"b": 2, "a": 1}})[-11:]


HUSHED: dict[str, Any] = {
    "api_key": "hush",
    "apiKey": "hush",
    "OPENAI_API_KEY": "hush",
    "x-api-key": "hush",
    "access_token": "hush",
    "token": "hush",
    "password": "hush",
    "db_passwd": "hush",
    "client_secret": "hush",
    "Authorization": "hush",
    "credentials": {"user": "hush"},
    "cookie": "hush",
    "plain": SecretStr("hush"),
    "login": Login(user="ada", password="hush"),
    "headers": {"Authorization": "Basic hush", "x-api-key": "hush"},
    "pairs": [("Authorization", "hush"), ("Accept", "json")],
    "text": "my key is sk-hush-1234, keep it",
    "more": "curl -H 'Authorization: Bearer hush.hush'",
    "url": "postgres://ada:hush@db/app?token=hush&x=1",
    "json": '{"api_key": "hush", "text": "x"}',
    "env": "PASSWORD=hush",
    "github": "ghp_hushhushhush",
    "bytes": b"Bearer hush",
    "long": "sk-" + "hush" * 100,
    "far": "x" * 9_000 + " sk-" + "hush" * 30,
    "huge": "PASSWORD=hush " + "x " * 5_000_000 + " sk-" + "hush" * 30,
    "pem": "-----BEGIN PRIVATE KEY-----\nhush\nhush\n-----END PRIVATE KEY-----",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.hushhush.hushhush",
}


@pytest.mark.parametrize("name", HUSHED)
def test_secrets_are_masked(name: str):
    """What is secret by its type, its name or its look is never shown, wherever it stands."""
    for value in (HUSHED[name], [HUSHED[name]], {name: HUSHED[name]}):
        text = sketch({name: value})
        assert "hush" not in text and "***" in text
    assert "1234" not in sketch({"login": HUSHED["login"]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 5),
        ("token_count", 5),
        ("tokenizer", "bpe"),
        ("author", "ada"),
        ("sort_key", "name"),
        ("api_key", None),
        ("text", "a task-force took the risk-free token"),
        ("url", "https://example.com/a:b@c"),
    ],
)
def test_what_is_no_secret_is_shown(name: str, value: Any):
    """Names and texts that only resemble secrets are left alone."""
    assert shown(value, name) == repr(value)


def test_sketches_are_the_same_in_every_process():
    """Two processes with other hash seeds write the same."""
    code = (
        "import golden, json; from instructor_cache._sketch import sketch; "
        "print(json.dumps([sketch({'v': v}) for v in golden.VALUES.values()]))"
    )

    def run(seed: str) -> Any:
        env = os.environ | {"PYTHONHASHSEED": seed}
        where: dict[str, Any] = {"cwd": Path(__file__).parent, "env": env}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, **where
        )
        return json.loads(done.stdout)

    one = run("1")
    assert one == run("2") == [sketch({"v": value}) for value in golden.VALUES.values()]
    assert not any(" at 0x" in text for text in one)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(min_size=1), ANYTHING, max_size=8))
def test_any_call_has_a_sketch(bound: dict[str, Any]):
    """Any arguments make a sketch that can be read back and stored, within its room."""
    text = sketch(bound)
    assert len(text.encode()) <= MOST
    assert all(len(shown) <= 200 for shown, _ in read(text).values())


@pytest.mark.parametrize("text", ["", "1", "[]", '{"a": 1}', '{"a": ["b"]}', "{"])
def test_what_is_no_sketch_has_no_parts(text: str):
    """Entries without arguments, or with what somebody else wrote, say nothing."""
    assert read(text) == {}


# -- in entries ------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.booleans())
def test_entries_keep_their_call(call: str, payload: bytes, is_stale: bool):
    """The text comes back with all else, with tags and without, through every copy of the entry."""
    for epochs in (b"", b"12345678" * 2):
        entry = Entry(payload, 1.0, 2.0, 3.0, 0.5, 1.5, is_stale, epochs, call)
        assert Entry.unpack("key", entry.pack("key")) == entry
        assert entry.again(1.5, 10).call == entry.seen(1.5).call == call


def entry_of(backend: Any, key: str) -> Entry:
    return Entry.unpack(key, backend.get(key))


def test_calls_are_kept_by_name(tmp_path: Path):
    """However a call is written, its parameters have their names; ignored ones are left out."""
    store = MemoryCache()

    @instructor_cache(store, ignore=("client",))
    def ask(client: Any, /, text: str, *rest: int, model: str = "m", **options: Any) -> User:
        rest += (4,)  # after it was noted
        return User(name=text)

    ask(object(), "ada", 1, 2, temperature=0, text_=1, client=3)
    key = ask.cache_key(None, "ada", 1, 2, temperature=0, text_=1, client=3)
    parts = read(entry_of(store, key).call)
    assert {name: text for name, (text, _) in parts.items()} == {
        "text": "'ada'",
        "rest": "(1, 2)",
        "model": "'m'",
        "temperature": "0",
        "text_": "1",
    }


def test_what_is_set_by_hand_has_its_call():
    """Answers from cache_set and cache_refresh say whose they are, too."""
    store = MemoryCache()

    @instructor_cache(store)
    def ask(text: str) -> User:
        return User(name=text)

    ask.cache_set(User(name="x"), "set")
    ask.cache_refresh("refreshed")
    for text in ("set", "refreshed"):
        assert read(entry_of(store, ask.cache_key(text)).call)["text"][0] == repr(text)


async def test_transfers_keep_the_call(tmp_path: Path):
    """Entries that are copied to another store say whose they are."""
    near, far, last = MemoryCache(), DiskCache(tmp_path), MemoryCache()

    @instructor_cache(near)
    def ask(text: str) -> User:
        return User(name=text)

    ask("ada")
    transfer(near, far, progress=False)
    await atransfer(far, last, progress=False)
    key = ask.cache_key("ada")
    assert entry_of(last, key) == entry_of(near, key)
    assert "ada" in entry_of(last, key).call


def test_a_sketch_is_made_on_a_miss_only(monkeypatch: pytest.MonkeyPatch):
    """Hits make none; nor do calls of functions that keep no arguments."""
    made: list[Any] = []
    monkeypatch.setattr("instructor_cache._calls.sketch", lambda bound: made.append(bound) or "")

    def ask(text: str) -> User:
        return User(name=text)

    kept, bare = (instructor_cache(MemoryCache(), keep_arguments=k)(ask) for k in (True, False))
    for _ in range(3):
        assert kept("ada") == bare("ada")
    assert made == [{"text": "ada"}]
