"""A cassette's file: blocks, sorted, as JSON that is read and corrected by people."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
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
    "An answer may be corrected by hand. All anew: mode all, as pytest --instructor-cassette=all"
)
_INCOMPLETE = "The test failed while it was recorded; mode once records the rest the next time."
_LOST = "not recorded"
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


def function_of(key: str) -> str:
    """Give the function whose call has that *key*."""
    return unquote(key.split(":")[1])


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
        return function_of(self.key)

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
        lost: By their keys, why calls that were made have no block: "raised ValueError".
    """

    blocks: dict[str, Block]
    is_complete: bool = True
    lost: dict[str, str] = field(default_factory=dict[str, str])

    def text(self) -> str:
        """Give it as the text of the file, the same for the same blocks."""
        head: Members = {"cassette": VERSION, "about": _ABOUT}
        if not self.is_complete:
            head["incomplete"] = _INCOMPLETE
        if self.lost:
            head[_LOST] = {key: self.lost[key] for key in sorted(self.lost)}
        ordered = sorted(self.blocks.values(), key=lambda block: block.order)
        blocks = ",\n\n".join(f"    {write(block.members(), 4)}" for block in ordered)
        lines = write(head).removesuffix("\n}")
        return f'{lines},\n  "entries": [\n\n{blocks}\n\n  ]\n}}\n'

    def joined(self, news: Page, own: Collection[str]) -> Page:
        """Give it with the *news* that another one has written meanwhile, but for its *own*."""
        blocks = self.blocks | news.blocks | {key: self.blocks[key] for key in own}
        lost = news.lost | self.lost
        return Page(
            blocks,
            self.is_complete and news.is_complete,
            {key: lost[key] for key in lost if key not in blocks},
        )


def read(raw: bytes, where: str) -> Page:
    """Give what *raw* holds; raise BrokenCassette, which names *where* and the line.

    Digests say whether arguments differ, keys which call it is: to edit what is shown as "call"
    changes no more than what a `CacheMiss` shows.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise _broken(where, before, error.start, "bytes that are no UTF-8, wanted text") from None
    head, entries = _outline(text, where)
    if head.get("cassette") != VERSION:
        found = f'{head.get("cassette")!r} as "cassette", wanted {VERSION}'
        raise _broken(where, text, 0, f"{found}: it is no cassette, or one of another version")
    blocks: dict[str, Block] = {}
    for start, entry in entries:
        try:
            block = _block(entry)
            _check_once(text, start)
        except (ValueError, TypeError, RecursionError) as error:
            found = str(error).removeprefix("found ")
            is_ours = found != str(error)
            told = found if is_ours else f"what can't be read ({error}), wanted a block as recorded"
            raise _broken(where, text, start, told) from None
        if block.key in blocks:
            told = "a second block with this key, wanted one: delete either"
            raise _broken(where, text, start, told)
        blocks[block.key] = block
    if not is_dict(lost := head.get(_LOST, {})):
        raise _broken(where, text, 0, f'a {type(lost).__name__} as "{_LOST}", wanted an object')
    lost = {key: str(reason) for key, reason in lost.items()}
    return Page(blocks, "incomplete" not in head, lost)


def _check_once(text: str, start: int) -> None:
    """Raise ValueError if a member is in an object twice: JSON would take the last."""
    _STRICT.raw_decode(text, start)


def _once(pairs: list[tuple[str, Any]]) -> Members:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'found "{twice}" twice in one object, wanted it once: delete either')
    return members


_STRICT = JSONDecoder(object_pairs_hook=_once)


def _outline(text: str, where: str) -> tuple[Members, list[tuple[int, Any]]]:
    """The members of the file but its entries, and these with the places where they begin."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        conflict = re.search(r"^(<{7}|={7}|>{7})( |$)", text, re.M)
        at = conflict.start() if conflict else getattr(error, "pos", 0)
        found = "the marks of a merge conflict" if conflict else f"no JSON ({error})"
        wanted = "wanted a cassette; of a merge, take each block whole, from { to }"
        raise _broken(where, text, at, f"{found}, {wanted}") from None
    start = _ENTRIES.search(text)
    if start is None or not is_dict(whole) or not is_list(whole.get("entries")):
        raise _broken(where, text, 0, 'no list of "entries", wanted a cassette')
    places, end = _places(text, start.end())
    try:
        _STRICT.decode(text[: start.end()] + text[end:])
    except ValueError as error:
        raise _broken(where, text, 0, str(error).removeprefix("found ")) from None
    return whole, list(zip(places, whole.pop("entries"), strict=True))


def _places(text: str, at: int) -> tuple[list[int], int]:
    """Where the entries begin in a list of JSON that goes on at *at*, and where it ends."""
    places = list[int]()
    while text[at] != "]":
        places.append(at)
        _, end = _DECODER.raw_decode(text, at)
        comma = _COMMA.match(text, end)
        at = comma.end() if comma else end
    return places, at


def _block(entry: Any) -> Block:
    """The block that an entry of the file is; ValueError says what is wanted."""
    if not is_dict(entry):
        raise TypeError("found a block that is no object, wanted one with key and answer")
    members: Members = entry
    if unknown := members.keys() - _MEMBERS:
        raise ValueError(f"found the unknown {_listed(unknown)}, wanted {_listed(_MEMBERS)}")
    key = members.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError('found no key in it, wanted the "key" that was recorded, as text')
    ways = [way for way in WAYS if way in members]
    if len(ways) != 1:
        raise ValueError(f"found {_listed(ways) or 'no answer'}, wanted one of {_listed(WAYS)}")
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
        raise TypeError('found something else, wanted objects as "call" and "digests"')
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


def _broken(where: str, text: str, at: int, found: str) -> BrokenCassette:
    line = text.count("\n", 0, at) + 1
    return BrokenCassette(
        f"{where}, line {line}: found {found}. Correct it, or take the file from version control"
    )
