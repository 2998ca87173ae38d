"""From a result to bytes and back, so that a hit equals the first answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocols import Codec
from ._codec import ExactCodec
from ._inside import holds_one_shot
from ._lint import lint
from ._raw import RawCompletion
from ._reach import is_partial, own_class
from ._stream import FINAL, STREAM, AsyncReplay, Item, Passed, Replay, Spent, StreamCodec

__all__ = [
    "FINAL",
    "STREAM",
    "AsyncReplay",
    "ExactCodec",
    "Item",
    "Passed",
    "RawCompletion",
    "Replay",
    "Spent",
    "StreamCodec",
    "codec_for",
    "holds_one_shot",
    "is_partial",
    "lint",
    "own_class",
]


def codec_for(
    annotation: Any,
    *,
    raw_response: bool = True,
    secrets: bool = False,
    streamed: Callable[[bytes], Any] | None = None,
) -> Codec:
    """The codec of a return annotation: any type that Pydantic knows.

    `raw_response=False` leaves out what instructor attached. `secrets=True` stores secrets as
    they are: only for payloads that will be encrypted. *streamed* decodes the payloads of streams.
    """
    return ExactCodec(annotation, raw_response=raw_response, secrets=secrets, streamed=streamed)
