"""Which endpoint a client asks, and on whose account: what keeps tenants apart in a key.

Everything is read at each call, for keys of an API are rotated and clients changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .._names import is_credential
from .._stand_in import stand_in, unnamed
from ..canonical import canonical
from ..errors import UnkeyableArgument
from ..identity import identity
from ._captured import Captured
from ._frozen import ordered
from ._headers import digest, sorted_out, veiled
from ._sdk import cookies_of, kind_of, unreadable
from ._transports import servers, unknown_transport

__all__ = ["Account", "Asked", "Place", "asked_by"]

_PLACE = (
    *("base_url", "_custom_query", "_api_version"),
    *("_azure_deployment", "location", "region", "project_id", "aws_region", "model_name"),
)
_SERVER = frozenset({"base_url", "servers"})  # what of a place a stand-in is for
_SECRETS = (
    *("api_key", "auth_token", "admin_api_key", "access_token", "_azure_ad_token"),
    *("aws_access_key", "aws_secret_key", "aws_session_token", "aws_profile"),
)
# Which of its accounts a provider counts a call to: who shares answers shares them over these too.
_BILLED = ("organization", "project")
# What makes credentials when they are needed: nothing tells whose they will be.
_SOURCES = (
    *("_api_key_provider", "_azure_ad_token_provider", "_workload_identity_auth"),
    *("workload_identity", "_provider", "_provider_runtime", "credentials", "_credentials"),
)


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
        if all(each in (None, "") for each in self._secrets.values()):  # or left out
            raise _unnamed("no credentials to tell tenants apart by")
        return digest(held)


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


class Place:
    """An endpoint: a part of a key. Its hosts are shown, no more, for URLs may hold secrets."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def __cache_key__(self) -> dict[str, Any]:
        clients: list[dict[str, Any]] = self._facts["clients"]
        where = canonical([client.get("base_url") for client in clients])
        if (anywhere := unnamed("server", where)) is None:
            return self._facts
        rest = [{n: client[n] for n in client if n not in _SERVER} for client in clients]
        return {**self._facts, "clients": rest, "server": anywhere}

    def changed(self, before: Place) -> str:
        """Give the name of a setting that was another one *before*; empty for none."""
        known = set(map(canonical, before._facts["settings"]))
        changed = (each for each in self._facts["settings"] if canonical(each) not in known)
        return next((name for _, name, _ in changed), "")

    def __cache_shown__(self) -> str:
        if stand_in() is not None:
            return "any"  # as in the key
        urls = (client.get("base_url") for client in self._facts["clients"])
        return ", ".join(str(urlsplit(str(url)).hostname) for url in urls if url) or "unknown"


class Unread:
    """Stands for a client or function that can't be read; no call has a key with it."""

    def __init__(self, found: str) -> None:
        self._found = found

    def __cache_key__(self) -> bytes:
        if (anywhere := unnamed("server", self._found.encode())) is not None:
            return anywhere
        raise UnkeyableArgument(
            f"found {self._found}, so that endpoint, model and settings can't be told; wanted what "
            f"can be read, whatever the namespace: give instructor the SDK's own client, as in "
            f"instructor.from_openai(client), and settings with the call; a class of yours may say "
            f"what counts of it in a method __cache_key__()",
            "client",
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked.

    Attributes:
        place: The endpoint, with all that chooses it.
        secrets: Credentials that could be read, and which account of theirs it is.
        hidden: What of the credentials could not be read; empty for nothing.
    """

    place: Any
    secrets: dict[str, Any]
    hidden: str = ""

    def account(self, more: Mapping[str, Any]) -> Any:
        """Give what stands in a key for the credentials, those that a call brings included."""
        return Unnamed(self.hidden) if self.hidden else Account({**self.secrets, **more})


def asked_by(captured: Captured) -> Asked:
    """Give who is asked by a function that has captured this."""
    settings, secrets = _settings(captured.settings)
    asked = [_asked(sdk) for sdk in captured.clients]
    for n, (_, _, each, _) in enumerate(asked):
        secrets.update({f"{name} {n}" if n else name: each[name] for name in each})
    places = [place | {"headers": headers} for place, headers, _, _ in asked]
    hidden = next((hidden for *_, hidden in asked if hidden), "")
    place = Place({"clients": places, "settings": settings})
    return Asked(Unread(captured.unread) if captured.unread else place, secrets, hidden)


def _settings(found: Iterable[tuple[int, str, Any]]) -> tuple[list[Any], dict[str, Any]]:
    """What was captured, and the credentials in it."""
    settings, secrets = list[Any](), dict[str, Any]()
    for n, name, value in found:
        if is_credential(name):
            secrets[name] = value
        elif name == "extra_headers" and isinstance(value, Mapping):
            headers, more = sorted_out(value)
            secrets.update(more)
            settings.append((n, name, headers))
        elif kind_of(value) is dict:
            held: dict[Any, Any] = value
            known = {key: held[key] for key in held if is_credential(str(key))}
            secrets.update({f"{name} {key}": each for key, each in known.items()})
            rest = {key: each for key, each in held.items() if key not in known}
            settings.append((n, name, ordered(rest)))
        else:
            settings.append((n, name, ordered(veiled(name, value))))
    return settings, secrets


def _asked(sdk: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]:
    """The endpoint of a client, its headers, its credentials, and what of them is hidden."""
    held = {name: _held(sdk, name) for name in (*_PLACE, *_BILLED, *_SECRETS)}
    own, own_secrets = sorted_out(getattr(sdk, "_custom_headers", None))
    http = getattr(sdk, "_client", None)
    sent, sent_secrets = sorted_out(getattr(http, "headers", None))
    kind = identity(type(sdk)).replace("Async", "")  # clients of both colours share
    place = {"client": kind, "params": str(getattr(http, "params", "")), **_there(held, _PLACE)}
    if found := servers(http):
        place["servers"] = found
    account = _there(held, _SECRETS) | _there(held, _BILLED)
    secrets = account | sent_secrets | own_secrets | cookies_of(http)
    return place, sent | own, secrets, _hidden(sdk, http) or unreadable(sdk, http)


def _hidden(sdk: Any, http: Any) -> str:
    sources = [name for name in _SOURCES if _held(sdk, name) is not None]
    if sources or getattr(http, "auth", None) is not None:
        name = next(iter(sources), "the HTTP client's auth")
        return f"credentials that are made when they are needed ({name})"
    if name := unknown_transport(http):
        return f"a transport of its own ({name})"
    return "" if hasattr(sdk, "base_url") else f"a {type(sdk).__name__}, whose account is hidden"


def _held(sdk: Any, name: str) -> Any:
    """A fact about a client: URLs as text, and nothing for a part of the API that has this name."""
    value: Any = getattr(sdk, name, None)
    if hasattr(value, "_client"):
        return None
    return str(value) if type(value).__name__ == "URL" else value


def _there(held: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: held[name] for name in names if held[name] not in (None, "", {})}
