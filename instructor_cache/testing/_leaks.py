"""What must not get into a file that is shared: keys and passwords."""

from __future__ import annotations

import ast
import json
import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from .._masks import MASK, key_in, looks_issued, looks_random
from .._names import is_password, is_secret
from ..codecs._kinds import is_dict, is_list
from ._environment import Variables, secrets
from ._texts import Compact

_BASE64 = re.compile(r"[\w+/-]{11,}", re.ASCII)
_PASSWORD = re.compile(r"(?!\w+://)[^\s*]{8,}")  # none that is masked, no sentence, no URL
_PLACEHOLDER = re.compile(r"[\W_]+|\$?\{.*\}|<.*>|\[.*\]|%\w+%|your[_-].*", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d](?:[^\W\dA-Z]|-)*[.!?]?")  # as what a field is called, or what is wrong
_AT_THE_END = re.compile(  # of names of secrets: others tell of what kind they are, or which
    r"(?!.*(?:page|next|continuation)[_-]?token$)"
    r".*(key|token|secret|auth|authorization|cookie|jwt|bearer|pwd?|credentials?|passw[a-z]*)$",
    re.IGNORECASE,
)
_LONGEST_REPR = 20_000
_REPR = re.compile(r"(?:[^\\]|\\[\\'\"nrtxuU])*")  # others would have Python warn
_PAIR = re.compile(
    r"""(?<![\w-])([\w-]{1,60})(?:\\*["'])?\s*[:=]\s*b?"""
    r"""(?:(\\*["'])((?:(?!\2).){0,300})\2|([^\s"'\\,;&]+))"""
)
_PERCENT = re.compile(r"%..")


def leak(text: str) -> str:
    """Tell which secret *text* holds, as such or in base64, without telling it; else nothing."""
    once = _decoded(text)
    return _leak(text) or _leak(once) or _leak(_decoded(once))


def _leak(text: str) -> str:
    if begun := key_in(text):
        return f"what looks like a key ({begun}...)"
    for form, name in _hidden():
        if form in text:
            return f"the value of the environment variable {name}"
    return ""


def named(value: Any) -> str:
    """Tell which member of *value*, or of what is in it, holds a password; else nothing."""
    if isinstance(value, str):
        return _named_in(value)
    value = value.value if isinstance(value, Compact) else value
    items = value.items() if is_dict(value) else enumerate(value) if is_list(value) else ()
    return next(filter(None, (_told(str(name), item) for name, item in items)), "")


def _told(name: str, value: Any) -> str:
    is_told = isinstance(value, str) and _is_password(name, value)
    return f'a text as "{name}"' if is_told else named(value)


def _named_in(text: str) -> str:
    """The same of what a text sets: if that is data, anything but a word; else what is random."""
    is_data = _is_data(text)
    pairs = ((name, quoted or bare) for name, _, quoted, bare in _PAIR.findall(text))
    found = (
        f'a text as "{name}"'
        for name, value in pairs
        if (looks_random(value) or (is_data and not _WORD.fullmatch(value)))
        and _is_password(name, value)
    )
    return next(found, "")


def _is_data(text: str) -> bool:
    """Whether it is an object or a list in JSON, or as Python shows one; in quotes, too."""
    if text.lstrip("\\\"' ")[:1] not in ("{", "["):
        return False
    is_repr = len(text) <= _LONGEST_REPR and _REPR.fullmatch(text)
    return _reads(json.loads, text) or (bool(is_repr) and _reads(ast.literal_eval, text))


def _reads(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _is_password(name: str, value: str) -> bool:
    if not _PASSWORD.fullmatch(value) or _PLACEHOLDER.fullmatch(value):
        return False
    if _letters(value) == _letters(name):
        return False
    is_named = is_secret(name) and _AT_THE_END.match(name) is not None
    return is_password(name, value) or (is_named and looks_issued(value))


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def without(text: str) -> str:
    """Give *text* without the secrets of the environment."""
    for form, _ in _hidden():
        text = text.replace(form, MASK)
    return text


def _decoded(text: str) -> str:
    """What *text* says in base64 anywhere, wherever in a run of its characters that begins."""
    return "\n".join(part for run in _BASE64.findall(text) for part in _readings(run))


def _readings(run: str) -> Iterator[str]:
    code = run.translate({ord("-"): "+", ord("_"): "/"})
    for start in range(4):
        length = len(code) - start
        whole = code[start : start + length - (length % 4 == 1)]  # no bytes have that length
        yield b64decode(whole + "=" * (-len(whole) % 4)).decode("utf-8", "replace")


def _hidden() -> tuple[tuple[str, str], ...]:
    return _forms(tuple(os.environ.items()))


@lru_cache(maxsize=8)
def _forms(variables: Variables) -> tuple[tuple[str, str], ...]:
    """The secrets as they are written in texts, the longest first: one may be part of another."""
    forms = {form: name for value, name in secrets(variables) for form in _written(value)}
    return tuple(sorted(forms.items(), key=lambda item: (-len(item[0]), item)))


def _written(value: str) -> set[str]:
    """How *value* is written by Python and in JSON, also one in the other, in bytes and in URLs."""
    value = value.encode("utf-8", "backslashreplace").decode()
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value)}
    forms |= {_PERCENT.sub(lambda found: found[0].lower(), form) for form in forms}
    forms |= {value.encode().hex(), value.encode().hex().upper()}
    forms.add(value.encode().decode("latin-1"))
    for _ in range(3):
        forms |= {form for each in forms for form in _quoted(each)}
    return forms


def _quoted(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    yield repr("\"'" + text)[4:-1]  # beside a quote of each kind
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1].replace("/", "\\/")
