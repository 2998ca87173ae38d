"""What is written of secrets: nothing, wherever they stand; and plain language stays as it is."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import pytest
from conftest import timed
from pydantic import AliasChoices, BaseModel, Field

from instructor_cache import MemoryCache, instructor_cache
from instructor_cache._difference import differences
from instructor_cache._masks import key_in, masked
from instructor_cache._sketch import read, sketch
from instructor_cache.testing import Cassette
from instructor_cache.testing._leaks import leak, named, without
from instructor_cache.testing.cassette import CassetteWarning

LONG = "canary0123456789"
ISSUED = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA3bC6dE9f"
HEX = "0123456789abcdef" * 4


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
        ("OPENAI_API_KEYS", f'{{"team": "{LONG}"}}', f"use {LONG} now"),
        ("OPENAI_API_KEYS", '{"key": "canary-1", "model": "gpt-4o"}', "use canary-1 now"),
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
        ("REDIS_URL", f"redis://{LONG}@host", LONG),
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
        ("DATABASE_URL", "postgres://app_user1@localhost/db", "the role app_user1"),
        ("AUTH_SCOPES", "read:users_v2 write:posts_v2", "it may read:users_v2"),
        ("AUTH_MODEL", "gpt-4o-mini", "ask gpt-4o-mini"),
        ("API_KEY_JSON", '{"model": "gpt-4o-mini", "region": "eu-west-1"}', "gpt-4o-mini"),
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


# -- answers ---------------------------------------------------------------------------------------


class Account(BaseModel, extra="allow"):
    user: str = "ada"
    password: str | None = None
    apiKey: str = ""
    token: str = ""
    secret_ingredient: str = ""
    password_hint: str = ""
    uses_password: str = ""
    forgotPassword: str = ""
    client_secret: str = ""
    secret: str = ""
    credentials: str = ""
    token_type: str = ""
    text: str = ""
    access_key: str = ""
    refresh_token: str = ""


def recorded(answer: Any, path: Path) -> int:
    """How many answers a cassette takes of a function that gives this one."""

    @instructor_cache(MemoryCache(), returns=list[Account])
    def accounts(text: str) -> Any:
        return [answer]

    with Cassette(path).playing() as cassette:
        accounts("which?")
    return cassette.recorded


@pytest.mark.parametrize(
    "answer",
    [
        Account(password="canarybird"),
        Account(apiKey="canary:bird"),
        Account(access_key="canary-1"),
        *(Account(**{name: ISSUED[:16]}) for name in ("secret", "credentials", "token")),
        Account(secret=HEX[:32]),
        Account(refresh_token="canary01"),
    ],
)
def test_an_answer_with_a_field_for_a_password_is_not_recorded(answer: Account, tmp_path: Path):
    """Whatever it looks like, at any depth: a warning names the field, not what it holds."""
    with pytest.warns(CassetteWarning, match=r'holds a text as "[\w_]+"') as told:
        assert recorded(answer, tmp_path / "x.json") == 0
    assert "canary" not in str(told[0].message)


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "canarybird7"}',
        "{'password': 'canarybird7'}",
        repr([{"user": "ada", "api_key": "canary:bird"}]),
        json.dumps(json.dumps({"client_secret": "canary, Bird"})).replace(", B", "-B"),
        json.dumps({"user": {"password": "canarybird7"}}, indent=2),
        f"FOO=bar\nexport OPENAI_API_KEY={LONG}",
        f"SECRET_KEY = '{LONG}'",
        f'Use {{"api_key": "{LONG}"}} as usual.',
    ],
)
def test_an_answer_whose_text_sets_a_password_is_not_recorded(text: str, tmp_path: Path):
    """Data that a model gave as text count as data do; in other texts it has to look random."""
    with pytest.warns(CassetteWarning, match="holds a text as") as told:
        assert recorded(Account(text=text), tmp_path / "x.json") == 0
    assert "canary" not in str(told[0].message)


PLACEHOLDERS = (
    *(
        "required",
        "too_short",
        "not_provided",
        "Passwort",
        "Mot-de-passe",
        "••••••••",
        "re-set-it.",
        "请输入您的密码以继续",
    ),
    *("YOUR_API_KEY", "{{password}}", "${DB_PASSWORD}", "[REDACTED]", "<your-key>"),
)
SOURCES = (
    "[tool]\nname = 'x'\npassword = getpass.getpass()",
    "[database]\npassword = os.environ['DB_PASSWORD']",
    "{\n  const password = process.env.DB_PASSWORD;\n}",
    '{ password = Configuration["Db:Password"]; }',
    "[ERROR] password=incorrect user=bob",
    "[password: re-set](https://example.com/reset)",
)
TITLES = (
    *(("credentials", text) for text in ("CISSP-2021", "MD-FACP-2012", "Bachelor2019_Informatik")),
    *(("authorization", text) for text in ("oauth2_client_credentials", "aws4-hmac-sha256")),
    *(("secret", "santa-2024"), ("cookie", "chocolate-chip-12pcs-family")),
    *(("token", "Covid-19-Impfstoff2021"), ("token", f"0x{HEX[:39]}A")),
    *(("continuation_token", ISSUED), ("nextPageToken", ISSUED), ("next_token", ISSUED)),
    *(("account_key", "DE89370400440532013000"), ("client_key", "ACME-2024-0000001")),
    ("license_key", "XXXX-XXXX-XXXX-1234"),
)


@pytest.mark.parametrize(
    "answer",
    [
        Account(),
        *(
            Account(text=json.dumps({"password": text}, ensure_ascii=False))
            for text in (*PLACEHOLDERS, "PASSWORD")
        ),
        *(Account(text=repr({"client_secret": text})) for text in (*PLACEHOLDERS, "CLIENT_SECRET")),
        *(Account(text=text) for text in SOURCES),
        *(Account(**{name: text}) for name, text in TITLES),
        Account(text='client = OpenAI(api_key=os.environ["OPENAI_API_KEY"])'),
        Account(text="config = {'password': 'YOUR_PASSWORD'}"),
        Account(text='{"password": "not given in the text", "api_key": "unknown"}'),
        Account(text="export OPENAI_API_KEY=your-key-here"),
        Account(token_type=LONG, text="password: see the vault, api_key: ********"),
        Account(secret_ingredient=LONG, password_hint=LONG),
        Account(secret="cinnamon", credentials="doctorate"),
        Account(password="none", apiKey="unknown"),
        Account(password="not given in the text"),
        Account(password="********"),
        Account(token="internationalization", secret_ingredient="cinnamon"),
        Account(password_hint="grandmother"),
        Account(uses_password="sometimes", forgotPassword="frequently"),
        Account(client_secret="https://example.com/secrets"),
        Account(access_key="Alt+Shift+S", refresh_token="rotating"),
    ],
)
def test_an_answer_that_only_speaks_of_passwords_is_recorded(answer: Account, tmp_path: Path):
    """Short words, sentences, URLs, masks, and fields that may hold words are no secrets."""
    assert recorded(answer, tmp_path / "x.json") == 1


def test_a_call_that_failed_tells_no_secret_of_its_key(tmp_path: Path):
    """A version that is a key stays out of the file, which says of other calls that they failed."""

    def fail(text: str) -> User:
        raise ValueError

    told = pytest.warns(CassetteWarning, match="raised ValueError")
    with told as warned, Cassette(tmp_path / "x.json").playing():
        ask("fine")
        for version in ("sk-proj-canary0123456789", "prompt-2"):
            with suppress(ValueError):
                instructor_cache(MemoryCache(), version=version)(fail)("x")
    text = (tmp_path / "x.json").read_text()
    assert "prompt-2" in text and "canary" not in text + str(warned[0].message)


# -- arguments -------------------------------------------------------------------------------------


class Login(BaseModel):
    k: str = Field("", alias="api_key")
    v: str = Field("", validation_alias=AliasChoices("v", "client_secret"))


@dataclass
class Header:
    name: str
    value: str


def shown(value: Any, name: str = "value") -> str:
    """The text of one argument."""
    return read(sketch({name: value}))[name][0]


@pytest.mark.parametrize(
    "value",
    [
        [(b"x-api-key", b"canary"), (b"host", b"x")],
        {b"authorization": "canary"},
        {("api_key", 1): "canary"},
        ("x-api-key", "canary", False),
        [{"name": "Authorization", "value": "canary"}],
        {"key": "api_key", "value": "canary"},
        {"type": "api_key", "key": "canary"},
        Header("Authorization", "canary"),
        Login(api_key="canary"),
        Login(client_secret="canary"),
        {"tokens": [LONG]},
        {"tokenValue": "canary"},
        {"github_pat": "canary"},
        {"pw": "canary"},
        {"session_id": LONG},
        {"signature": LONG},
        {"X-Customer-Key": LONG},
        {"key": LONG, "sig": LONG.encode(), "code": LONG},
        {"dsn": f"https://{LONG}@sentry.io/1"},
    ],
)
def test_values_are_hidden_by_their_names(value: Any):
    """Names may be bytes, in tuples, aliases, beside their values; of vague ones the look tells."""
    assert "canary" not in shown(value) and "***" in shown(value)


@pytest.mark.parametrize(
    "value",
    [
        {"key": "name", "keys": ["a", "b"], "sort_key": "created_at_2024"},
        {"tokens": ["the", "internationalization"], "code": "print(1)", "signature": "f(x)"},
        {"max_tokens": 100, "prompt_tokens": 5, "token_count": 3, "tokens": 7},
        {"type": "token", "value": "canary"},
        {"name": "password", "type": "string"},
        {"name": "ada", "value": "canary"},
        {"secretary": "Ada", "pat": "a cat"},
        {"what is the secret of a good cake": "butter"},
        [("the secret ingredient", "butter")],
        ("token", "x", "y"),
        {"key": "reports/2024/q1-summary.pdf"},
    ],
)
def test_names_that_hold_no_secret_are_shown(value: Any):
    """Words, numbers and file names stand under names such as key and tokens, too."""
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "canary two canary", "x": 1}',
        "password='canary, canary; canary'",
        json.dumps({"password": 'canary "two" canary'}),
        json.dumps(json.dumps({"api_key": 'canary "two" canary'})),
        repr({"token": b"canary canary"}),
        *(json.dumps({name: "canary"}) for name in ("openai_key", "pwd", "auth", "cookie", "pin")),
        json.dumps(json.dumps({"credentials": "canary", "Ocp-Apim-Subscription-Key": "canary"})),
        json.dumps({"session_id": LONG, "key": LONG}),
        f"SECRET_KEY={LONG}",
        "Cookie: a=canary; b=canary",
        "Set-Cookie: sid=canary; path=/; HttpOnly; secure",
        "mysql --password canary -u root",
        "tool --api-key 'canary canary'",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\ncanary\n-----END PGP PRIVATE KEY BLOCK-----",
        "https://host/x?sv=1&sig=canary01&se=2",
        "https://host/x?X-Amz-Credential=canary01&X-Amz-Signature=canary01&a=1",
        "https://host/x?X-Amz-Security-Token=canary",
        f"https://host/x?key={LONG}",
        f"https://host/x?code={LONG}",
        f"https://host/x?auth={LONG}",
        "https://host/x?pwd=canary&pass=canary",
        "Server=db; Pwd=canary; x=1",
        f"https://{LONG}@host/x",
        "mysql --password canary here",
        "https://u:canary@canary@host/x",
    ],
)
def test_secrets_in_texts_are_hidden(text: str):
    """In quotes to their end, in headers, options and URLs, and in JSON in JSON."""
    assert "canary" not in shown(text) and "***" in shown(text)


@pytest.mark.parametrize(
    "key",
    [
        *(f"{begun}{ISSUED}" for begun in ("nvapi-", "csk-", "jina_", "pcsk_", "tgp_v1_", "hvs.")),
        *(f"{begun}{ISSUED}" for begun in ("ntn_", "whsec_", "lin_api_", "figd_", "phc_")),
        *(f"fw_{ISSUED[:24]}", f"glsa_{ISSUED[:32]}_01234567", f"dckr_pat_{ISSUED[:27]}"),
        *(
            f"lsv2_pt_{HEX[:32]}_0123456789",
            f"dapi{HEX[:32]}",
            f"dop_v1_{HEX}",
            f"shpat_{HEX[:32]}",
        ),
        "sntrys_eyJpYXQiOjE3MDAwMDAwMDAsInVybCI6Imh0dHBz_" + ISSUED,
    ],
)
def test_keys_of_providers_are_in_no_file(key: str):
    """By how they begin and what follows: they are masked in arguments, refused in answers."""
    assert key[-9:] not in shown(f"connect with {key} now") and leak(f'["{key}"]')


@pytest.mark.parametrize("begun", ["acme-", "acme_live_", "key=acme.v1."])
def test_what_looks_like_a_key_of_anybody_is_hidden(begun: str):
    """In arguments only: of an answer it may be the id, and a cassette without one is no use."""
    assert shown(begun + ISSUED) in ("'***'", "'key=***'")
    assert leak(begun + ISSUED) == ""


@pytest.mark.parametrize(
    "text",
    [
        *("chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "msg_01XFDUDYJgAACzvnptvVoYEL"),
        *("call_DdmO9pD3xa9XTPNJ32zg2hcA", "req_011CSHoEeqs5C35K2UUqR7Fy", "file-S7roYWamZqfMK9D7"),
        *(f"resp_{HEX}", f"sha256-{ISSUED}", f"https://host/file-{ISSUED}", f"{HEX}.js"),
        *("123e4567-e89b-12d3-a456-426614174000", f"x-{HEX[:32]}", "gpt-4o-mini-2024-07-18"),
        *("meta-llama/Llama-3.2-11B-Vision-Instruct", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        *("fw_version_2_stable_release_notes", "jina_embeddings_v3_base_model_2024"),
        *("com.example.oauth.OAuth2AuthorizationServerConfiguration", "fw_" + HEX[:32]),
        *("nvapi-open-source-sdk-r535", "a-slug-of-an-article-of-2024-about-20-things"),
        *("report_20240131T120000Z_final_v2.pdf", "dapi-client", "ask_skip_csk-2024-release-notes"),
    ],
)
def test_names_and_ids_are_no_keys(text: str):
    """Of answers, models, files, classes and versions, and digests."""
    assert shown(text) == repr(text) and leak(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "the secret of a good cake is butter",
        "max_tokens=100, prompt_tokens: 5",
        '{"key": "name", "author": "Ada", "token_count": "3", "session_id": "first"}',
        "key points: keep your password safe, and your tokens",
        "Cookie: chocolate chips, oat. Cookies: many",
        "run it with --max-token 100 --no-password ada --token-limit 5",
        "https://host/x?key=username&code=404&design=flat&bypass=true&auth=none",
        "https://ada@host/x and ssh://git@github.com/a",
        "if (a) { b(); auth=get_auth(); }",
        "mailto://john.smith1990@example.com, ssh://deploy01@host and https://medium.com/@ada2024x",
        "git+https://host/very/long/path/of/release2024@v1",
        "https://host/x?auth=required&code=SUMMER2024SALE10",
        "the flag --secret is required, --token or --api-key must be given",
        "-----\nPRIVATE KEYS are not to be shared\n-----",
    ],
)
def test_plain_language_is_shown(text: str):
    """Texts that speak of secrets, tokens and keys have none."""
    assert shown(text) == repr(text)


@timed
def test_texts_are_looked_through_in_little_time():
    """However often what begins like a secret is repeated, no pattern goes back far."""
    start = monotonic()
    for part in (
        "-",
        "--a",
        "?a",
        "://",
        'token: "',
        "cookie: a=",
        '\\"',
        "&key=",
        "?KEY=",
        "a_",
        "a-b.c",
        "x_aB1",
        "nvapi-",
        "sk-",
        "xai-",
        "eyJ-",
    ):
        text = part * (100_000 // len(part))
        masked(text), key_in(text), named(text)
    assert monotonic() - start < 5


def test_what_was_stored_when_less_was_masked_is_not_called_different():
    """An argument whose text is the same once it is masked as others are now."""
    text = repr('Reply as {"pin": "1234"}')
    parts, stored = {"text": (masked(text), "00000001")}, {"text": (text, "00000002")}
    assert differences(parts, stored) == ["can't be told, being masked: text"]
    assert differences(parts, {"text": (text + "!", "00000002")})[0] == "text:"
