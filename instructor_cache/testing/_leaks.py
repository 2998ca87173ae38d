"""What must not get into a file that is shared: keys and passwords."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

from .._masks import MASK, is_secret, key_in

_LEAST = 8  # characters of a variable's value: shorter ones are words of the language
_PLAIN = {"PWD"}  # the folder, whatever its name makes of it
_URL_PASSWORD = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_BASE64 = re.compile(r"[\w+/-]{11,}={0,2}", re.ASCII)


def leak(text: str) -> str:
    """Tell which secret *text* holds, as such or in base64, without telling it; else nothing."""
    return next((found for each in _readings(text) if (found := _leak(each))), "")


def _leak(text: str) -> str:
    if begun := key_in(text):
        return f"what looks like a key ({begun}...)"
    for value, name in _secrets():
        if value in text:
            return f"the value of the environment variable {name}"
    return ""


def without(text: str) -> str:
    """Give *text* without the secrets of the environment."""
    for value, _ in _secrets():
        text = text.replace(value, MASK)
    return text


def _readings(text: str) -> Iterator[str]:
    """The text, and what it says in base64 anywhere."""
    yield text
    for run in _BASE64.findall(text):
        code = run.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
        try:
            yield b64decode(code + "=" * (-len(code) % 4)).decode("utf-8", "replace")
        except ValueError:  # another length
            continue


def _secrets() -> tuple[tuple[str, str], ...]:
    """What variables hold that are secret by their names, each in every form that it may be in."""
    named = [(value, name) for name, value in os.environ.items() if is_secret(name)]
    inner = [
        (m[1], name) for name, value in os.environ.items() for m in _URL_PASSWORD.finditer(value)
    ]
    return _forms(
        tuple(
            (value, name)
            for value, name in (*named, *inner)
            if len(value) >= _LEAST and name not in _PLAIN
        )
    )


@lru_cache(maxsize=8)
def _forms(secrets: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The *secrets* as they are written in texts, the longest first: one may be part of another."""
    forms = {form: name for value, name in secrets for form in _written(value)}
    return tuple(sorted(forms.items(), key=lambda item: (-len(item[0]), item)))


def _written(value: str) -> set[str]:
    """How *value* is written by Python and in JSON, also one in the other, in bytes and in URLs."""
    value = value.encode("utf-8", "backslashreplace").decode()
    forms = {value, quote(value, safe="")}
    forms.add(value.encode().decode("latin-1"))
    for _ in range(3):
        forms |= {form for each in forms for form in _quoted(each)}
    return forms


def _quoted(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    yield repr("\"'" + text)[4:-1]  # beside a quote of each kind
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
