"""What differs between two calls of a function, in a few lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from urllib.parse import unquote

from ._masks import MASK
from ._pen import CUT
from ._sketch import Part

_SHORT = 60  # characters of a text that is shown as it is
_CONTEXT = 16  # characters around what differs
_NONE = "(not given)"


def differences(parts: dict[str, Part], stored: dict[str, Part]) -> list[str]:
    """Give the lines that tell what arguments are the same, and what differs in the others."""
    names = list(dict.fromkeys((*parts, *stored)))
    equal = [name for name in names if parts.get(name) == stored.get(name)]
    masked = [name for name in equal if MASK in parts[name][0]]
    same = [name for name in equal if name not in masked]
    lines = [f"the same: {', '.join(same)}"] if same else []
    if masked:
        lines.append(f"can't be told, being masked: {', '.join(masked)}")
    for name in names:
        if name not in equal:
            lines += [f"{name}:", *_both(parts.get(name), stored.get(name))]
    return lines


def _both(this: Part | None, stored: Part | None) -> list[str]:
    if this is None or stored is None:
        ours, theirs = (_NONE if part is None else part[0] for part in (this, stored))
    elif this[0] == stored[0]:
        return [f"  differs in what is left out: {this[0]}"]
    else:
        ours, theirs = _shown(this[0], stored[0])
    return [f"  - {theirs}", f"  + {ours}"]


def _shown(this: str, stored: str) -> tuple[str, str]:
    """Both texts, or of long ones the parts that differ, with a little of what is around."""
    if max(len(this), len(stored)) <= _SHORT:
        return this, stored
    match = SequenceMatcher(None, stored, this, autojunk=False)
    spans = [
        ((group[0][3], group[-1][4]), (group[0][1], group[-1][2]))
        for group in match.get_grouped_opcodes(_CONTEXT)
    ]
    return _parts(this, [one for one, _ in spans]), _parts(stored, [other for _, other in spans])


def _parts(text: str, spans: list[tuple[int, int]]) -> str:
    shown = f" {CUT} ".join(text[begin:end] for begin, end in spans)
    before = f"{CUT} " if spans and spans[0][0] > 0 else ""
    after = f" {CUT}" if spans and spans[-1][1] < len(text) else ""
    return f"{before}{shown}{after}"


def other_reasons(key: str, stored: str, namespace: str) -> list[str]:
    """Give the lines that tell what else differs, as the keys say."""
    this, other = (_Head(each[len(namespace) :]) for each in (key, stored))
    return list(this.differences(other))


class _Head:
    """What a key says of the function and its answers: ``version~captured~schema``."""

    def __init__(self, rest: str) -> None:
        *edition, schema = rest.rpartition(":")[0].split("~")
        self.schema, self.format = schema[:-1], schema[-1:]
        is_digest = bool(edition) and re.fullmatch(r"[0-9a-f]{8}", edition[-1])
        self.captured = edition.pop() if is_digest else ""
        self.version = unquote("~".join(edition))

    def differences(self, stored: _Head) -> Iterator[str]:
        if self.version != stored.version:
            yield from ("version:", f"  - {stored.version or '(none)'}")
            yield f"  + {self.version or '(none)'}"
        if self.captured != stored.captured:
            yield "captured: the function's own constants, or a lambda's code, are others"
        if self.schema != stored.schema:
            yield "schema: the return type has changed since"
        elif self.format != stored.format:
            yield "format: it was stored by another version of this library"
