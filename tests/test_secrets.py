"""What is written of secrets: nothing, wherever they stand; and plain language stays as it is."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache
from instructor_cache.testing import Cassette
from instructor_cache.testing._leaks import leak, without
from instructor_cache.testing.cassette import CassetteWarning


class User(BaseModel):
    name: str


@instructor_cache(MemoryCache())
def ask(text: str) -> User:
    return User(name=text)


# -- variables of the environment ------------------------------------------------------------------

KEY = "canary/K7+MDENG"
DSN = "postgres://app:canary%401@db/app"


def test_an_answer_with_a_password_of_a_url_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The URL has it encoded, the answer as such: a warning names the variable."""
    monkeypatch.setenv("DATABASE_URL", DSN)
    told = pytest.warns(CassetteWarning, match="the environment variable DATABASE_URL")
    with told, Cassette(tmp_path / "x.json").playing():
        ask("the password is canary@1")
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MY_API_KEY", "canary-1\n", "use canary-1 now"),
        ("MY_API_KEY", '"canary-1"', "use canary-1 now"),
        ("OPENAI_API_KEYS", "canary-1,canary-2", "use canary-2 now"),
        ("OPENAI_API_KEYS", '{"team": "canary-1"}', "use canary-1 now"),
        ("OPENAI_API_KEYS", '["canary-1"]', "use canary-1 now"),
        ("AUTHORIZATION", "Bearer canary-1", "use canary-1 now"),
        ("BASIC_AUTH", "ada:swordfish", "the word is swordfish"),
        ("GOOGLE_CREDENTIALS_JSON", '{"client_secret": "canarybird"}', "the canarybird sang"),
        ("DATABASE_URL", DSN, "canary%401"),
        ("DATABASE_URL", "postgres://app:cana/ryvalue@db/app", "cana/ryvalue"),
        ("DATABASE_URL", "postgres://app:x@canaryvalue@db/app", "x@canaryvalue"),
        ("AUTH_URL", "https://canary:canarybird@example.com", "the canarybird sang"),
        ("AWS_ACCESS_KEY_ID", "canary-1", "canary-1"),
        ("VAULT_SECRET_ID", "canary-1", "canary-1"),
        ("REDIS_URL", "redis://canary-1@host", "canary-1"),
        ("PG_DSN", "host=db user=x password=canarybird", "canarybird"),
        ("CONNECTION", "Server=db;Pwd='canary bird';", "canary bird"),
        *(
            ("MY_API_KEY", KEY, f"https://host/a/{form}")
            for form in (
                quote(KEY),
                quote(KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
                KEY.encode().hex(),
                KEY.encode().hex().upper(),
                json.dumps(KEY).replace("/", "\\/"),
            )
        ),
    ],
)
def test_forms_of_what_a_variable_holds_are_hidden(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
):
    """Parts of lists, pairs, URLs and settings are found, as such, decoded or encoded."""
    assert leak(text) == ""
    monkeypatch.setenv(name, value)
    assert leak(text) == f"the value of the environment variable {name}"
    assert "***" in without(text)


@pytest.mark.parametrize("before", ["", "x", "xy", "https://host/a/", "data:text/plain;base64,"])
def test_a_secret_in_base64_is_found_wherever_it_begins(
    before: str, monkeypatch: pytest.MonkeyPatch
):
    """Beside letters, behind a path, at any offset, and when it was encoded twice."""
    monkeypatch.setenv("MY_API_KEY", KEY)
    for ahead in ("", "u:", "us:", "use:"):
        code = b64encode(f"{ahead}{KEY}".encode())
        for form in (code, b64encode(code), code.replace(b"+", b"-").replace(b"/", b"_")):
            assert leak(before + form.decode()) and leak(f"{before}{form.decode()}.")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MY_API_KEY", "none", "none of it"),
        (
            "MY_SECRETS",
            "true,localhost:6379,api-2.example.com",
            "true: localhost, api-2.example.com",
        ),
        ("BASIC_AUTH", "administrator:pw", "ask the administrator"),
        (
            "GOOGLE_CREDENTIALS_JSON",
            '{"type": "service_account", "project_id": "birds-2024", "client_secret": "canary-1"}',
            "a service_account of birds-2024",
        ),
        ("DATABASE_URL", "postgres://postgres@database-1/app", "postgres at database-1"),
        ("PROXY", "http://localhost:8080/a@b", "http://localhost:8080/a@b"),
        ("COOKIE_DOMAIN", "example.com", "ada@example.com"),
        ("JWT_ISSUER", "https://example.com/", "see https://example.com/"),
        ("SECRET_NAME", "production-2", "production-2"),
        ("AUTH_URL", "https://canary:canary-1@example.com", "https://example.com"),
        (
            "GOOGLE_CREDENTIALS",
            '{"private_key": "canary-1", "auth_uri": "https://example.com/auth"}',
            "https://example.com/auth",
        ),
        ("MY_OPTIONS", "max_tokens=100000000 colour=vermilion", "vermilion 100000000"),
    ],
)
def test_words_that_stand_in_variables_are_left(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
):
    """Short values, words, hosts, ports and settings that are no secrets make nothing secret."""
    monkeypatch.setenv(name, value)
    assert leak(text) == "" and without(text) == text
