"""The arguments of a call as somebody reads them who asks what differs from another call.

A JSON object: for each parameter its text, shortened, and a digest that differs where the value
does. Nothing secret is shown, and the text is the same in every process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ._pen import LONGEST, Pen, clean, shortened
from .canonical import canonical

_SHORTER = 100, 50, 25, 8  # characters of each text, if all are too long together
_ROOM = 2_000  # bytes of a sketch
_NAME = 60  # characters of a name

Part = tuple[str, str]  # text and digest


def sketch(bound: Mapping[str, Any]) -> str:
    """Give the sketch of a call with those arguments, 2,000 bytes at most."""
    parts = {shortened(clean(name), _NAME): _part(name, value) for name, value in bound.items()}
    for longest in _SHORTER:
        if (text := _fitting(parts)) is not None:
            return text
        parts = {name: (shortened(text, longest), mark) for name, (text, mark) in parts.items()}
    while (text := _fitting(parts)) is None:
        parts.popitem()
    return text


def read(text: str) -> dict[str, Part]:
    """Give the parts of a sketch; none for what is no sketch."""
    try:
        parts = json.loads(text)
        return {name: (str(shown), str(mark)) for name, (shown, mark) in parts.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _fitting(parts: dict[str, Part]) -> str | None:
    """The parts as a sketch, if there is room for all."""
    text = _json(parts)
    return text if len(text.encode()) <= _ROOM else None


def _part(name: str, value: Any) -> Part:
    pen = Pen()
    text = clean(pen.named(name, value, 0))
    return shortened(text, LONGEST), _digest(value, pen)


def _digest(value: Any, pen: Pen) -> str:
    """Eight characters that tell the value apart; of what is shown of it where that is masked."""
    try:
        form = b"\0".join(pen.full) if pen.is_masked else canonical(value)
    except Exception:  # as where key= made the key
        form = b"\0".join(pen.full)
    return sha256(form).hexdigest()[:8]
