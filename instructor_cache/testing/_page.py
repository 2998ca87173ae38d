"""A cassette's file: blocks, sorted, as JSON that is read and corrected by people."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any
from urllib.parse import unquote

from .._sketch import read as read_sketch
from ..codecs._kinds import is_dict, is_list
from ..entry import FORMAT
from ..errors import CorruptEntry
from ._blocks import ANSWER, WAYS, Members, payload_of, shown
from ._sketches import shown_text, text_of
from ._texts import Compact, write

VERSION = 1
_ABOUT = (
    "What cached functions answered in a test, kept by instructor_cache. "
    "An answer may be corrected by hand. All anew: pytest --instructor-cassette=all"
)
_INCOMPLETE = "The test failed while it was recorded; mode once records the rest the next time."
_MEMBERS = {"function", "call", "digests", "key", *WAYS, *ANSWER}
_KEY = re.compile(r"[!-9;-~]*(:[!-9;-~]*){3,}")
_ENTRIES, _COMMA = re.compile(r'"entries"\s*:\s*\[\s*'), re.compile(r"\s*,?\s*")
_FORMAT = f"{FORMAT:x}"
_DECODER = JSONDecoder()
# What differs between two completions that say the same.
_PASSING = {
    *("id", "call_id", "item_id", "request_id", "response_id", "system_fingerprint"),
    *("created", "created_at", "completed_at"),
}


class BrokenCassette(CorruptEntry):
    """A cassette can't be read; the message says where, what is wanted and what to do."""


@dataclass(frozen=True)
class Block:
    """One recorded answer.

    Attributes:
        call: The arguments, readable, as an entry has them; empty if they are not kept.
    """

    key: str
    call: str
    payload: bytes

    @property
    def function(self) -> str:
        return unquote(self.key.split(":")[1])

    @property
    def order(self) -> tuple[str, str, str]:
        """By which blocks are sorted."""
        return self.function, self.call.removesuffix("{}"), self.key

    def members(self) -> Members:
        """Give what is shown of it: what one reviews first, what one skips last."""
        members: Members = {"function": self.function}
        parts = read_sketch(self.call)
        if parts:
            members["call"] = {name: shown_text(text) for name, (text, _) in parts.items()}
        members |= shown(self.payload)
        if parts:
            members["digests"] = Compact({name: digest for name, (_, digest) in parts.items()})
        return {**members, "key": self.key}

    def says_as_much_as(self, other: Block) -> bool:
        """Tell whether only ids and times of the raw answers differ."""
        return bool(_lasting(self.members()) == _lasting(other.members()))


@dataclass(frozen=True)
class Page:
    """What a file holds.

    Attributes:
        is_complete: Whether the test was recorded to its end.
    """

    blocks: dict[str, Block]
    is_complete: bool = True

    def text(self) -> str:
        """Give it as the text of the file, the same for the same blocks."""
        head: Members = {"cassette": VERSION, "about": _ABOUT}
        if not self.is_complete:
            head["incomplete"] = _INCOMPLETE
        ordered = sorted(self.blocks.values(), key=lambda block: block.order)
        blocks = ",\n\n".join(f"    {write(block.members(), 4)}" for block in ordered)
        lines = write(head).removesuffix("\n}")
        return f'{lines},\n  "entries": [\n\n{blocks}\n\n  ]\n}}\n'


def read(raw: bytes, where: str) -> Page:
    """Give what *raw* holds; raise BrokenCassette, which names *where* and the line."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise _broken(where, before, error.start, "bytes that are no UTF-8", "text") from None
    head, entries = _outline(text, where)
    if head.get("cassette") != VERSION:
        wanted = f'"cassette": {VERSION}; it is no cassette, or one of another version'
        raise _broken(where, text, 0, f'{head.get("cassette")!r} as "cassette"', wanted)
    blocks: dict[str, Block] = {}
    for start, entry in entries:
        try:
            block = _block(entry)
        except (ValueError, TypeError) as error:
            raise _broken(where, text, start, "a block that can't be read", str(error)) from None
        if block.key in blocks:
            raise _broken(where, text, start, "a second block with this key", "one: delete either")
        blocks[block.key] = block
    return Page(blocks, "incomplete" not in head)


def _outline(text: str, where: str) -> tuple[Members, list[tuple[int, Any]]]:
    """The members of the file but its entries, and these with the places where they begin."""
    try:
        whole = json.loads(text)
    except ValueError as error:
        conflict = re.search(r"^(<{7}|={7}|>{7})( |$)", text, re.M)
        at = conflict.start() if conflict else getattr(error, "pos", 0)
        found = "the marks of a merge conflict" if conflict else f"no JSON ({error})"
        raise _broken(where, text, at, found, "a cassette") from None
    if not is_dict(whole) or not is_list(whole.get("entries")):
        raise _broken(where, text, 0, 'no list of "entries"', "a cassette")
    entries: list[Any] = whole.pop("entries")
    return whole, list(zip(_places(text, len(entries)), entries, strict=True))


def _places(text: str, count: int) -> list[int]:
    """Where the *count* entries begin in a text that was seen to be JSON."""
    start, places = _ENTRIES.search(text), list[int]()
    at = start.end() if start else 0
    for _ in range(count):
        places.append(at)
        _, end = _DECODER.raw_decode(text, at)
        comma = _COMMA.match(text, end)
        at = comma.end() if comma else end
    return places


def _block(entry: Any) -> Block:
    """The block that an entry of the file is; ValueError says what is wanted."""
    if not is_dict(entry):
        raise TypeError("an object with key and answer")
    members: Members = entry
    if unknown := members.keys() - _MEMBERS:
        raise ValueError(f"no {_listed(unknown)}; known are {_listed(_MEMBERS)}")
    key = members.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError('the "key" that was recorded, as text')
    ways = [way for way in WAYS if way in members]
    if len(ways) != 1:
        raise ValueError(f"one of {_listed(WAYS)}, found {_listed(ways) or 'none'}")
    return Block(_present(key), _call(members), payload_of(members))


def _present(key: str) -> str:
    """The key as it is today: its schema ends with the format of entries, no affair of ours."""
    prefix, function, schema, rest = key.split(":", 3)
    return f"{prefix}:{function}:{schema[:-1]}{_FORMAT}:{rest}"


def _call(members: Members) -> str:
    """The arguments as an entry has them."""
    texts: Any = members.get("call", {})
    digests: Any = members.get("digests", {})
    if not is_dict(texts) or not is_dict(digests):
        raise TypeError('objects as "call" and "digests"')
    pairs = {name: [text_of(v), str(digests.get(name, ""))] for name, v in texts.items()}
    return json.dumps(pairs, separators=(",", ":"), ensure_ascii=False) if pairs else ""


def _lasting(members: Any, *, is_raw: bool = False) -> Any:
    """What is told, without what differs from one completion to the next."""
    if isinstance(members, Compact):
        return _lasting(members.value, is_raw=True)
    if is_list(members):
        return [_lasting(item, is_raw=is_raw) for item in members]
    if not is_dict(members):
        return members
    kept = members.keys() - _PASSING if is_raw else members
    return {name: _lasting(members[name], is_raw=is_raw) for name in kept}


def _listed(names: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))


def _broken(where: str, text: str, at: int, found: str, wanted: str) -> BrokenCassette:
    line = text.count("\n", 0, at) + 1
    return BrokenCassette(
        f"{where}, line {line}: found {found}, wanted {wanted}. Correct it, take the file from "
        f"version control again, or have it recorded anew: pytest --instructor-cassette=all"
    )
