"""What differs between two calls of a function, in a few lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import accumulate
from urllib.parse import unquote

from ._masks import MASK, masked
from ._shortened import CUT, shortened
from ._sketch import Part

_SHORT = 60  # characters of a text that is shown as it is
_CONTEXT = 16  # characters around what differs
_LONG = 1_000  # characters that are compared one by one
_MOST = 1_000  # characters of a difference
_WORDS = re.compile(r"\w+|\W")
Span = tuple[int, int]
_NONE = "(not given)"


def differences(parts: dict[str, Part], stored: dict[str, Part]) -> list[str]:
    """Give the lines that tell what arguments are the same, and what differs in the others."""
    names = list(dict.fromkeys((*parts, *stored)))
    equal = [name for name in names if _is_equal(parts.get(name), stored.get(name))]
    hidden = [name for name in equal if MASK in parts[name][0]]
    same = [name for name in equal if name not in hidden]
    lines = [f"the same: {', '.join(same)}"] if same else []
    if hidden:
        lines.append(f"can't be told, being masked: {', '.join(hidden)}")
    for name in names:
        if name not in equal:
            lines += [f"{name}:", *_both(parts.get(name), stored.get(name))]
    return lines


def _is_equal(this: Part | None, stored: Part | None) -> bool:
    if this == stored or this is None or stored is None:
        return this == stored
    return this[0] == masked(stored[0]) != stored[0]  # stored when less was masked


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
    spans = _close(_changes(this, stored), len(this), len(stored))
    return _parts(this, [one for one, _ in spans]), _parts(stored, [other for _, other in spans])


def common(one: str, other: str) -> int:
    """Give how many characters are the same from the start."""
    least, most = 0, min(len(one), len(other))
    while least < most:  # halving is much faster than looking at each
        middle = (least + most + 1) // 2
        if one.startswith(other[:middle]):
            least = middle
        else:
            most = middle - 1
    return least


def _changes(this: str, stored: str) -> Iterator[tuple[Span, Span]]:
    """Where two texts differ: by characters, or by words if that would take too long."""
    head = common(this, stored)
    most = min(len(this), len(stored)) - head
    tail = min(common(this[::-1], stored[::-1]), most)
    middles = this[head : len(this) - tail], stored[head : len(stored) - tail]
    is_long = max(map(len, middles)) > _LONG
    ours, theirs = (_WORDS.findall(text) if is_long else list(text) for text in middles)
    if len(ours) + len(theirs) > 2 * _LONG:
        yield (head, len(this) - tail), (head, len(stored) - tail)
        return
    at, their_at = (list(accumulate(map(len, p), initial=head)) for p in (ours, theirs))
    match = SequenceMatcher(None, theirs, ours, autojunk=False)
    for kind, their_begin, their_end, begin, end in match.get_opcodes():
        if kind != "equal":
            yield (at[begin], at[end]), (their_at[their_begin], their_at[their_end])


def _close(changes: Iterable[tuple[Span, Span]], ours: int, theirs: int) -> list[tuple[Span, Span]]:
    """The changes with what is around them, those that are close as one."""
    found: list[tuple[Span, Span]] = []
    for (begin, end), (their_begin, their_end) in changes:
        before = min(begin, their_begin, _CONTEXT)
        mine = begin - before, min(end + _CONTEXT, ours)
        other = their_begin - before, min(their_end + _CONTEXT, theirs)
        if found and found[-1][0][1] >= mine[0]:
            (first, _), (their_first, _) = found.pop()
            mine, other = (first, mine[1]), (their_first, other[1])
        found.append((mine, other))
    return found


def _parts(text: str, spans: list[tuple[int, int]]) -> str:
    shown = f" {CUT} ".join(shortened(text[begin:end], _MOST) for begin, end in spans)
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
