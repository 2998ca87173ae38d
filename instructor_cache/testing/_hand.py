"""Slips of the hand in an answer that was edited: members that its type would pass over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .._bridge import drive
from ..codecs._kinds import is_dict, is_list
from ..protocols import Codec

_MARKS = b"!?"  # of an answer that is not plain
Path = tuple[str, ...]


def unknown(codec: Codec, payload: bytes) -> list[str]:
    """Give the names that are lost when the answer is read and written again, in quotes."""
    with suppress(Exception):  # what has no such form can't be compared
        again = drive(_again(codec, payload))
        if _marks(again) == _marks(payload):
            lost = set(_paths(payload)) - set(_paths(again))
            return sorted({f'"{path[-1]}"' for path in lost})
    return []


async def _again(codec: Codec, payload: bytes) -> bytes:
    answer = codec.decode(payload)
    if hasattr(answer, "__aiter__"):
        answer = [item async for item in answer]
    return codec.encode(answer)


def _lines(payload: bytes) -> list[bytes]:
    """The line that is the answer, or of a stream those of all its items."""
    return [item.partition(b"\n")[0] for item in payload.lstrip(b"*.").split(b"\n\n")]


def _marks(payload: bytes) -> list[bytes]:
    return [line[:1] if line[:1] in (b"!", b"?") else b"" for line in _lines(payload)]


def _paths(payload: bytes) -> Iterator[Path]:
    for line in _lines(payload):
        yield from _walk(json.loads(line.lstrip(_MARKS)), ())


def _walk(value: Any, at: Path) -> Iterator[Path]:
    """Where there are members; the items of a list are all in one place, for sets have no order."""
    if is_list(value):
        for item in value:
            yield from _walk(item, at)
    elif is_dict(value):
        for name, item in value.items():
            yield (*at, name)
            yield from _walk(item, (*at, name))
