"""The arguments of a call as somebody reads them who asks what differs from another call.

A JSON object: for each parameter its text, shortened, and a digest that differs where the value
does. Nothing secret is shown, and the text is the same in every process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ._pen import SHORT, Pen, Style
from ._shortened import clean, shortened
from .canonical import canonical

_SHORTER = 200, 100, 50, 25, 8  # characters of each text, if all are too long together
_NAME = 60  # characters of a name

Part = tuple[str, str]  # text and digest


def sketch(bound: Mapping[str, Any], style: Style = SHORT) -> str:
    """Give the sketch of a call with those arguments, as long as the *style* has room."""
    parts: dict[str, Part] = {}
    for longest in style.longest:
        parts = {
            shortened(clean(style.hide(name)), _NAME): _part(name, value, Pen(style, longest))
            for name, value in bound.items()
        }
        if (text := _fitting(parts, style.room)) is not None:
            return text
    for longest in _SHORTER:
        parts = {name: (shortened(text, longest), mark) for name, (text, mark) in parts.items()}
        if (text := _fitting(parts, style.room)) is not None:
            return text
    while (text := _fitting(parts, style.room)) is None:
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


def _fitting(parts: dict[str, Part], room: int) -> str | None:
    """The parts as a sketch, if there is room for all."""
    text = _json(parts)
    return text if len(text.encode()) <= room else None


def _part(name: str, value: Any, pen: Pen) -> Part:
    text = clean(pen.named(name, value, 0))
    told = pen.style.hide(text)
    pen.is_masked |= told != text
    return shortened(told, pen.style.part), _digest(value, pen)


def _digest(value: Any, pen: Pen) -> str:
    """Eight characters that tell the value apart; of what is shown of it where that is masked."""
    try:
        form = _told(pen) if pen.is_masked else canonical(value)
    except Exception:  # as where key= made the key
        form = _told(pen)
    return sha256(form).hexdigest()[:8]


def _told(pen: Pen) -> bytes:
    form = b"\0".join(pen.full)
    text = form.decode("utf-8", "replace")
    told = pen.style.hide(text)
    return form if told == text else told.encode()
