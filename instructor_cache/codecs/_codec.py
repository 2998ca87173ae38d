"""Results of one type to bytes and back, verified.

A payload is lines of JSON, most often one. The first is the result: plain JSON by field name, or,
after a `!` that no JSON begins with, tagged JSON, or, after a `?`, what a type with a schema of its
own makes of itself. The others hold the raw answers attached to it. What a stream gave has marks of
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_origin

from pydantic_core import CoreSchema

from ..errors import Unstorable
from ._attached import Attached, attach
from ._compare import difference
from ._fresh import settle
from ._inside import SECRETS
from ._objects import SecretFound
from ._plain import Plain, core_schema_of
from ._public import Public
from ._reach import Reach, named_classes, own_classes_in
from ._shape import shape_check
from ._stream import MARKS
from ._tagged import Tagged

__all__ = ["ExactCodec"]

_TAGGED = b"!"
_PUBLIC = b"?"
_NEXT = b"\n"


class ExactCodec:
    """Stores the results of one annotation so that they come back exactly, or not at all."""

    def __init__(
        self,
        annotation: Any,
        *,
        raw_response: bool,
        secrets: bool,
        streamed: Callable[[bytes], Any] | None = None,
    ) -> None:
        schema = core_schema_of(annotation)
        self._reach = Reach([*named_classes(annotation), *own_classes_in(schema)])
        self._raw_response, self._streamed = raw_response, streamed
        self._where = _title(annotation)
        self._is_shaped = shape_check(schema)
        has_secrets = any(issubclass(cls, SECRETS) for cls in self._reach)
        self._plain = None if has_secrets else _plain(schema)
        self._tagged = Tagged(self._reach, secrets=secrets)
        self._public = None if has_secrets and not secrets else _public(schema, secrets=secrets)
        self.decode: Callable[[bytes], Any] = self._decoder()

    def encode(self, result: Any, /) -> bytes:
        """The result as bytes that were decoded and compared; Unstorable if they can't be."""
        try:
            return _verified(self._plain, result) or self._encode_slowly(result)
        except Unstorable:
            raise
        except Exception as error:
            raise Unstorable(
                f"{self._where}: can't be stored exactly ({type(error).__name__});"
                " return plain data, or leave this function uncached"
            ) from None

    def settle(self, result: Any, /) -> Any:
        """The result with its own classes where instructor made fresh ones; else as it is."""
        try:
            return settle(result, self._reach)
        except RecursionError:
            return result

    def fits(self, result: Any, /) -> bool:
        """Whether the result is of the type, its models taken at their class."""
        return self._is_shaped(result)

    def _encode_slowly(self, result: Any) -> bytes:
        attached = Attached(raw_response=self._raw_response)
        bare = attached.take_off(settle(result, self._reach))
        plain = None if bare is result else _verified(self._plain, bare)
        line = plain or self._encode_otherwise(bare)
        payload = line + _NEXT + attached.encode() if attached else line
        decoded = self._decode(payload)
        self._check(decoded, result)
        self._compare(Attached(raw_response=False).take_off(decoded), bare)
        return payload

    def _encode_otherwise(self, result: Any) -> bytes:
        try:
            return _TAGGED + self._tagged.encode(result, self._where)
        except SecretFound:  # which no other form may tell either
            raise
        except Unstorable:
            line = _verified(self._public, result)
            if line is None:
                raise
            return _PUBLIC + line

    def _compare(self, decoded: Any, result: Any) -> None:
        found = difference(decoded, result)
        if found is not None:
            raise Unstorable(
                f"{self._where}: {found} would not come back as it is; wanted a value made of"
                " its attributes; turn it into a model, a dataclass or builtin types"
            )

    def _check(self, decoded: Any, result: Any) -> None:
        if not self._is_shaped(decoded):
            raise Unstorable(
                f"{self._where}: found a {type(result).__name__}, wanted what the return"
                " annotation says; correct the one or the other"
            )

    def _decoder(self) -> Callable[[bytes], Any]:
        """The fastest way to decode that the type allows; a method call alone would be felt."""
        if self._plain is None:
            return self._decode_slowly
        load, decode_slowly = self._plain.load, self._decode_slowly

        def decode(payload: bytes, /) -> Any:
            try:
                return load(payload)
            except Exception:
                return decode_slowly(payload)

        return decode

    def _decode_slowly(self, payload: bytes, /) -> Any:
        """As `decode`, for payloads of every form. What is in them stays out of the error.

        RecursionError says nothing of the payload: from a shallower stack it may be readable.
        """
        if self._streamed is not None and payload[:1] in MARKS:
            return self._streamed(payload)
        try:
            value = self._decode(payload)
            if self._is_shaped(value):
                return value
            reason = f"it holds a {type(value).__name__}"
        except RecursionError:
            raise RecursionError(f"too little stack left to read a {self._where}") from None
        except Exception as error:
            reason = type(error).__name__
        text = f"not a payload of {self._where} ({reason}); delete it and call the function again"
        raise ValueError(text) from None

    def _decode(self, payload: bytes) -> Any:
        line, _, attached = payload.partition(_NEXT)
        value = self._decode_line(line)
        return attach(value, attached) if attached else value

    def _decode_line(self, line: bytes) -> Any:
        if line.startswith(_TAGGED):
            return self._tagged.decode(line[len(_TAGGED) :])
        if line.startswith(_PUBLIC) and self._public is not None:
            return self._public.load(line[len(_PUBLIC) :])
        if self._plain is None:
            raise ValueError("plain JSON, but the type has no plain form")
        return self._plain.load(line)


def _verified(form: Plain | Public | None, result: Any) -> bytes | None:
    """The result in that form, or None if it would not come back the same."""
    if form is None:
        return None
    try:
        line = form.dump(result)
        return line if difference(form.load(line), result) is None else None
    except Exception:  # the form does not fit, and another may
        return None


def _plain(schema: CoreSchema) -> Plain | None:
    """The plain form; never for secrets, since one that is its own mask would pass as text."""
    try:
        return Plain(schema)
    except Exception:  # NotPlain, or a schema of the user's that we can't take apart
        return None


def _public(schema: CoreSchema, *, secrets: bool) -> Public | None:
    try:
        return Public(schema, secrets=secrets)
    except Exception:  # as above
        return None


def _title(annotation: Any) -> str:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")
