"""Which headers count, and as what: a part of the question, or of the account."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from .._names import is_credential, is_secret
from .._stand_in import unnamed
from ..canonical import canonical
from ._sdk import is_absent

__all__ = ["digest", "sorted_out", "veiled"]

# Those that follow a request through other systems, or come with every one.
_TRACING = re.compile(
    r"(x-)?(trace|span|request|correlation|transaction|client-request)-id|(x-)?langfuse-trace-id"
    r"|x-(amzn-requestid|(amzn|litellm|portkey)-trace-id|(ms-client|ms|goog)-request-id)"
    r"|x-(cloud-trace-context|ot-span-context|honeycomb-trace|newrelic-id|vercel-id|request-start)"
    r"|x-(b3|datadog|stainless)-.+|x-instana-[tsl]|dd-trace-id|ot-tracer-(traceid|spanid|sampled)"
    r"|(elastic-apm-)?traceparent|tracestate|baggage|b3|newrelic|sentry-trace|grpc-trace-bin|cf-ray"
    r"|uber-trace-id|langsmith-trace|helicone-(request|session)-id|idempotency-key|user-agent"
    r"|accept|accept-encoding|connection|content-length|content-type|host",
    re.IGNORECASE,
)
# Whose values are no secrets, whatever they are.
_HARMLESS = frozenset(
    {"accept-language", "anthropic-beta", "anthropic-version", "openai-beta", "x-title"}
)
_ROUNDS = 50_000  # some 20 ms, once for each credential: none is found by trying


def sorted_out(headers: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the headers that may change an answer, and credentials; not those for tracing."""
    items = cast("Mapping[Any, Any]", headers or {}).items()
    kept = {str(name).lower(): value for name, value in items if not _TRACING.fullmatch(str(name))}
    kept = {n: None if is_absent(each) else each for n, each in kept.items()}  # not the default
    secret = {name: value for name, value in kept.items() if is_credential(name)}
    return {name: _shown(name, kept[name]) for name in kept.keys() - secret.keys()}, secret


def _shown(name: str, value: Any) -> Any:
    held = veiled(name, value)
    return held if held is not value or value is None or name in _HARMLESS else Header(value)


class Header:
    """The value of a header, which counts as it is and is shown nowhere: it may be a secret."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __cache_key__(self) -> Any:
        return self._value


class Veiled:
    """A value that may be a secret by its name, and may change answers: its digest counts."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __cache_key__(self) -> bytes:
        held = canonical(self._value)
        if (anything := unnamed("secret", held)) is not None:
            return anything
        return digest(held)


def veiled(name: str, value: Any) -> Any:
    """Give a text that is secret by its name so that it is seen nowhere; anything else as it is."""
    return Veiled(value) if isinstance(value, str) and is_secret(name) else value


@lru_cache(maxsize=1024)
def digest(secrets: bytes) -> bytes:
    """Give what stands for *secrets* and can't be turned back into them."""
    return hashlib.pbkdf2_hmac("sha256", secrets, b"instructor_cache", _ROUNDS, 16)
