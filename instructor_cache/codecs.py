"""Results to bytes and back, exactly: what can't be restored as it was is not stored."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from .errors import Unstorable
from .protocols import Codec


def codec_for(annotation: Any) -> Codec:
    """Give the codec for results of the annotated type."""
    return JsonCodec(annotation)


class JsonCodec:
    """JSON by field name, verified on every write."""

    def __init__(self, annotation: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def encode(self, result: Any, /) -> bytes:
        try:
            payload = self._adapter.dump_json(
                result, by_alias=False, round_trip=True, warnings="error"
            )
            again = self._adapter.dump_json(self.decode(payload), by_alias=False, round_trip=True)
        except Exception as error:
            raise Unstorable(f"the result can't be stored: {error}") from error
        if payload != again:
            raise Unstorable("the result would not come back as it was")
        return payload

    def decode(self, payload: bytes, /) -> Any:
        return self._adapter.validate_json(payload, by_alias=False, by_name=True)

    def settle(self, result: Any, /) -> Any:
        return result
