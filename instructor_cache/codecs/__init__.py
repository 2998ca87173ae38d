"""From a result to bytes and back, so that a hit equals the first answer."""

from __future__ import annotations

from typing import Any

from ..protocols import Codec
from ._codec import ExactCodec
from ._lint import lint
from ._raw import RawCompletion

__all__ = ["RawCompletion", "codec_for", "lint"]


def codec_for(annotation: Any, *, raw_response: bool = True, secrets: bool = False) -> Codec:
    """The codec of a return annotation: any type that Pydantic knows.

    `raw_response=False` leaves out what instructor attached. `secrets=True` stores secrets as
    they are: only for payloads that will be encrypted.
    """
    return ExactCodec(annotation, raw_response=raw_response, secrets=secrets)
