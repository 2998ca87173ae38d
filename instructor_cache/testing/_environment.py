"""What the variables of the environment hold that nobody else should read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from .._masks import looks_random
from .._names import is_secret, is_vague
from ..codecs._kinds import is_dict, is_list

Variables = tuple[tuple[str, str], ...]

_LEAST = 8  # characters: shorter ones are words of the language
_PLAIN = {"PWD", "PYTEST_CURRENT_TEST"}  # a folder, a test, whatever they look like
# How names end that tell where a secret is, or whose: what they hold is none.
_ABOUT = re.compile(
    r"_(ur[il]|domain|hosts?|port|issuer|audience|name|path|file|dir|directory|sock|endpoint|region"
    r"|provider|backend|type|method|mode|model|level|scopes?|algorithm|enabled|parallelism"
    r"|ttl|expir(y|es)|length)$",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[\s,;:@]+")
_USER = re.compile(r"://([^\s/:@]+)(?::[^\s/@]*)?@")
_PASSWORDS = (
    re.compile(r"://[^\s/:@]*:([^\s/@]+)@"),
    re.compile(r"://[^\s/:@]*:(?!\d{1,5}/)(\S+)@"),  # one that has / or @ in it
)
_LOGIN = re.compile(r"[\w.@+-]+:(?!//)(\S+)")
_SETTING = re.compile(r"""(?<![\w-])([\w-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s;&]+)""")
_WORDS = re.compile(r"[^\W\d]+(?:[-.][^\W\d]+)*|[\d.,:/-]+|(?:[\w-]+\.)+[a-z]{2,}|//.*")


def secrets(variables: Variables) -> list[tuple[str, str]]:
    """Give what *variables* hold that is secret, each with the name of its variable."""
    return [
        (value, name)
        for name, held in variables
        if name not in _PLAIN
        for value in {*_values(name, held)}
        if len(value) >= _LEAST
    ]


def _values(name: str, held: str) -> Iterator[str]:
    bare = held.strip().strip("\"'").strip()
    yield from _credentials(bare)
    if _is_told_by(name):
        yield from (held, bare)
        yield from _parts(bare)


def _is_told_by(name: str) -> bool:
    return is_secret(name) and not _ABOUT.search(name)


def _credentials(text: str) -> Iterator[str]:
    """What is secret in a URL or in settings such as ``Pwd=...``, as such and decoded."""
    yield from (user for user in _USER.findall(text) if looks_random(user))
    for found in (password for each in _PASSWORDS for password in each.findall(text)):
        yield from (found, unquote(found))
    for name, value in _SETTING.findall(text):
        if _is_told_by(name):
            yield from (value.strip("\"'"), unquote(value))


def _parts(text: str) -> Iterator[str]:
    """What a secret is made of, but for words, numbers, hosts, and what JSON has beside it."""
    if login := _LOGIN.fullmatch(text):
        yield login[1]
    leaves = list(_leaves(text))
    yield from (told := [leaf for name, leaf in leaves if is_vague(name) or _is_told_by(name)])
    for name, leaf in [] if told else leaves:
        yield from (part for part in _SEPARATORS.split(leaf) if _is_secret_part(name, part))


def _is_secret_part(name: str, part: str) -> bool:
    return bool(looks_random(part)) if name else not _WORDS.fullmatch(part)


def _leaves(text: str) -> Iterator[tuple[str, str]]:
    """The texts in what is JSON, with their names, or *text* itself."""
    try:
        yield from _texts("", json.loads(text))
    except ValueError:
        yield "", text


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if is_dict(value):
        for each, item in value.items():
            yield from _texts(each, item)
    elif is_list(value):
        for item in value:
            yield from _texts(name, item)
    elif isinstance(value, str):
        yield name, value
