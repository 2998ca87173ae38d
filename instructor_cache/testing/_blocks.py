"""From the payload of an entry to what a reader sees of it in a cassette, and back."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from decimal import Decimal
from typing import Any

from ..codecs._kinds import is_dict, is_list
from ._texts import Compact, gather, spread

Members = dict[str, Any]

# What a payload begins with if it is more than JSON, and the word for it.
_FORMS = {b"!": "tagged", b"?": "public"}
_MARKS = {word: mark for mark, word in _FORMS.items()}
_STREAM, _FINAL = b"*", b"."
_BETWEEN = b"\n\n"

ANSWER = {"answer", "form", "attached", "raw"}
WAYS = ("answer", "stream", "final", "payload", "base64")  # of showing an answer; one in each block


def shown(payload: bytes) -> Members:
    """Give the members of a block that show *payload*: readable if it can be, exact in any case."""
    try:
        members = _shown(payload)
        if _tokens(payload_of(members)) == _tokens(payload):
            return members
    except (ValueError, RecursionError):  # numbers and depths that are too much for Python's JSON
        pass
    try:
        return {"payload": spread(payload.decode())}
    except UnicodeDecodeError:
        return {"base64": b64encode(payload).decode()}


def payload_of(members: Members) -> bytes:
    """Give the payload that *members* show; raise ValueError for what they lack or mistake."""
    if "stream" in members:
        return _STREAM + _BETWEEN.join(map(_item, _list(members["stream"], "stream")))
    if "final" in members:
        return _FINAL + _item(members["final"])
    if "payload" in members:
        return _to_bytes(_text(gather(members["payload"]), "payload"))
    if "base64" in members:
        return b64decode(_text(members["base64"], "base64"), validate=True)
    return _item(members)


def _shown(payload: bytes) -> Members:
    if payload.startswith(_STREAM):
        body = payload[len(_STREAM) :]
        return {"stream": [_shown_item(item) for item in body.split(_BETWEEN)] if body else []}
    if payload.startswith(_FINAL):
        return {"final": _shown_item(payload[len(_FINAL) :])}
    return _shown_item(payload)


def _shown_item(payload: bytes) -> Members:
    line, *attached = payload.split(b"\n")
    form = _FORMS.get(line[:1])
    members: Members = {"answer": spread(json.loads(line[1:] if form else line))}
    if form:
        members["form"] = form
    if attached:
        members |= _shown_attached(json.loads(attached[0]), list(map(json.loads, attached[1:])))
    return members


def _shown_attached(index: Members, bodies: list[Any]) -> Members:
    """A line where each raw answer belongs, and a line for each: they are not what one reviews."""
    heads = index.pop("raw")
    raws = [{"head": head, "body": body} for head, body in zip(heads, bodies, strict=True)]
    return {"attached": Compact(index), "raw": [Compact(raw) for raw in raws]}


def _item(members: Any) -> bytes:
    found = _dict(members, "an answer")
    if "answer" not in found:
        raise ValueError('found no "answer", wanted one in each')
    form = found.get("form")
    if form is not None and form not in _MARKS:
        raise ValueError(f"found the form {form!r}, wanted one of {', '.join(_MARKS)}, or none")
    line = _MARKS.get(form or "", b"") + _line(gather(found["answer"]))
    return b"\n".join([line, *_attached(found)])


def _attached(members: Members) -> list[bytes]:
    if "attached" not in members:
        return []
    raws = [_dict(_plain(raw), "raw") for raw in _list(members.get("raw", []), "raw")]
    if any(raw.keys() != {"head", "body"} for raw in raws):
        raise ValueError('found a raw answer without "head" and "body", wanted both')
    index = {"raw": [raw["head"] for raw in raws], **_dict(_plain(members["attached"]), "attached")}
    return list(map(_line, [index, *(raw["body"] for raw in raws)]))


def _line(value: Any) -> bytes:
    return _to_bytes(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # which is how JSON writes lone surrogates


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Compact) else value


def _tokens(payload: bytes) -> list[Any]:
    """What a payload says, with numbers as they are written and members in their order."""
    return [_read(line) for line in payload.lstrip(_STREAM + _FINAL).split(b"\n")]


def _read(line: bytes) -> Any:
    mark = line[:1] if line[:1] in _FORMS else b""
    body = line[len(mark) :]
    return mark, _load_exactly(body) if body else None


def _load_exactly(body: bytes) -> Any:
    return json.loads(
        body,
        parse_float=lambda text: (Decimal(text), text.startswith("-")),
        parse_int=str,
        parse_constant=str,
        object_pairs_hook=list,
    )


def _dict(value: Any, name: str) -> Members:
    if not is_dict(value):
        raise ValueError(f'found a {type(value).__name__} as "{name}", wanted an object')
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not is_list(value):
        raise ValueError(f'found a {type(value).__name__} as "{name}", wanted a list')
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'found a {type(value).__name__} as "{name}", wanted text')
    return value
