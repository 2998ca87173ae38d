"""Which endpoint a client asks, and on whose account: what keeps tenants apart in a key.

Everything is read at each call, for keys of an API are rotated and clients changed in place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

from .._masks import is_credential
from .._stand_in import unnamed
from ..annotations import closure_of
from ..canonical import canonical
from ..errors import UnkeyableArgument
from ..identity import identity

__all__ = ["Account", "Asked", "asked_by", "constants_of", "is_absent", "sorted_out"]

_PLACE = (
    *("base_url", "organization", "project", "_custom_query", "_api_version"),
    *("_azure_deployment", "location", "region", "project_id", "aws_region", "model_name"),
)
_SECRETS = (
    *("api_key", "auth_token", "admin_api_key", "access_token", "_azure_ad_token"),
    *("aws_access_key", "aws_secret_key", "aws_session_token", "aws_profile"),
)
_OWN = ("base_url", "organization", "project")  # what others have others of
# What makes credentials when they are needed: nothing tells whose they will be.
_SOURCES = (
    *("_api_key_provider", "_azure_ad_token_provider", "_workload_identity_auth"),
    *("workload_identity", "_provider", "_provider_runtime", "credentials", "_credentials"),
)
# Headers that follow a request through other systems, or come with every one.
_TRACING = re.compile(
    r"trace|span|request-?id|correlation|baggage|\bb3\b|sentry|datadog|newrelic|idempotency"
    r"|user-agent|stainless|^accept|^connection$|^content-(type|length)$|^host$",
    re.IGNORECASE,
)
_ROUNDS = 50_000  # some 20 ms, once for each credential: none is found by trying


class Account:
    """Whose credentials a call goes with: a part of its key that can't be turned back into them.

    Not keyed by a secret of ours, because every process must make the same of it.
    """

    def __init__(self, secrets: Mapping[str, Any]) -> None:
        self._secrets = secrets

    def __cache_key__(self) -> bytes:
        held = canonical(dict(self._secrets))
        if (anybody := unnamed("account", held)) is not None:
            return anybody
        if not self._secrets:
            raise _unnamed("no credentials to tell tenants apart by")
        return _digest(held)


class Unnamed:
    """Stands for credentials that can't be read; no call has a key with it."""

    def __init__(self, found: str) -> None:
        self._found = found

    def __cache_key__(self) -> bytes:
        if (anybody := unnamed("account", b"")) is not None:
            return anybody
        raise _unnamed(self._found)


def _unnamed(found: str) -> UnkeyableArgument:
    return UnkeyableArgument(
        f"found {found}; wanted what keeps its answers from others: say whose answers may be "
        f"shared with cache_client(..., namespace=...)",
        "namespace",
    )


@lru_cache(maxsize=1024)
def _digest(secrets: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secrets, b"instructor_cache", _ROUNDS, 16)


def sorted_out(headers: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the headers that may change an answer, and those that are secret; not the tracing."""
    items = cast("Mapping[Any, Any]", headers or {}).items()
    kept = {str(name).lower(): value for name, value in items if not _TRACING.search(str(name))}
    kept = {name: value for name, value in kept.items() if not is_absent(value)}
    secret = {name: value for name, value in kept.items() if is_credential(name)}
    return {name: kept[name] for name in kept.keys() - secret.keys()}, secret


def is_absent(value: Any) -> bool:
    """Whether it is what an SDK writes for "not given"."""
    return type(value).__name__ in ("NotGiven", "Omit")


class Place:
    """An endpoint: a part of a key, and of nothing that is shown, for URLs may hold secrets."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def __cache_key__(self) -> dict[str, Any]:
        where = {name: self._facts[name] for name in _OWN if name in self._facts}
        if (anywhere := unnamed("server", canonical(where))) is None:
            return self._facts
        rest = {name: each for name, each in self._facts.items() if name not in _OWN}
        return {**rest, "server": anywhere}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked.

    Attributes:
        place: The endpoint, with all that chooses it.
        secrets: Credentials that could be read.
        hidden: What of it could not be read; empty for nothing.
    """

    place: Place
    secrets: dict[str, Any]
    hidden: str = ""

    def account(self, more: Mapping[str, Any]) -> Any:
        """Give what stands in a key for the credentials, those that a call brings included."""
        return Unnamed(self.hidden) if self.hidden else Account({**self.secrets, **more})


def asked_by(client: Any, create: Any) -> Asked:
    """Give who is asked by a patched function.

    Args:
        client: The provider's client that instructor holds; None if it was given a function.
        create: instructor's function, whose client may be another one.
    """
    owners: list[Any] = [owner for owner in map(_owner, _layers(create)) if owner is not None]
    sdk: Any = owners[0] if owners else client
    if sdk is None:
        return Asked(Place({"function": _name(getattr(create, "__wrapped__", create))}), {})
    held = {name: _held(sdk, name) for name in (*_PLACE, *_SECRETS)}
    own, own_secrets = sorted_out(getattr(sdk, "_custom_headers", None))
    http = getattr(sdk, "_client", None)
    sent, sent_secrets = sorted_out(getattr(http, "headers", None))
    kind = _name(type(sdk)).replace("Async", "")  # clients of both colours share
    place = {"client": kind, "headers": sent | own, **_there(held, _PLACE)}
    secrets = _there(held, _SECRETS) | sent_secrets | own_secrets
    return Asked(Place(place), secrets, _hidden(sdk, http))


def _name(thing: Any) -> str:
    return identity(thing if hasattr(thing, "__qualname__") else type(thing))


def _layers(func: Any) -> Iterator[Any]:
    """A function and what it wraps, as a wrapper or as a partial, one in the other."""
    while func is not None:
        yield func
        inner: Any = getattr(func, "__wrapped__", None)
        func = getattr(func, "func", None) if inner is None and _is_partial(func) else inner


def _is_partial(func: Any) -> bool:
    return isinstance(func, partial)


def _owner(func: Any) -> Any:
    """The client that a function belongs to, or was given."""
    given = getattr(func, "keywords", {}).get("client")
    resource = getattr(func, "__self__", None)
    found = (given, getattr(resource, "_client", None), resource)
    return next((owner for owner in found if owner is not None), None)


def _hidden(sdk: Any, http: Any) -> str:
    sources = [name for name in _SOURCES if _held(sdk, name) is not None]
    if sources or getattr(http, "auth", None) is not None:
        name = next(iter(sources), "the HTTP client's auth")
        return f"credentials that are made when they are needed ({name})"
    return "" if hasattr(sdk, "base_url") else f"a {type(sdk).__name__}, whose account is hidden"


def _held(sdk: Any, name: str) -> Any:
    """A fact about a client: URLs as text, and nothing for a part of the API that has this name."""
    value: Any = getattr(sdk, name, None)
    if hasattr(value, "_client"):
        return None
    return str(value) if type(value).__name__ == "URL" else value


def _there(held: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: held[name] for name in names if held[name] not in (None, "", {})}


def constants_of(create: Any) -> dict[str, Any]:
    """Give what the layers of a patched function have captured and that is constant by nature.

    A model's name may live there and nowhere else.
    """
    found: dict[str, Any] = {}
    for layer in _layers(create):
        captured = {**closure_of(layer), **getattr(layer, "keywords", {})}
        found = {**{n: v for n, v in captured.items() if _is_constant(v)}, **found}
    found.pop("cache_scope", None)  # instructor's own random number for each client
    return found


def _is_constant(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
