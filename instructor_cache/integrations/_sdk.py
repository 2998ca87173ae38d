"""What a provider's client is, and whether all that chooses account and answer can be read."""

from __future__ import annotations

import types
from functools import lru_cache
from typing import Any, cast

__all__ = [
    "client_in",
    "cookies_of",
    "home_of",
    "is_absent",
    "is_providers",
    "is_sdk",
    "kind_of",
    "overridden",
    "unreadable",
]

# The packages of the providers that instructor knows, and of what they send requests by.
_SDKS = frozenset(
    {
        *("openai", "anthropic", "groq", "cerebras", "fireworks", "mistralai", "cohere", "google"),
        *("vertexai", "writerai", "xai_sdk", "boto3", "botocore", "perplexity", "together"),
    }
)
_HTTP = frozenset({"httpx", "httpx2", "httpx_aiohttp"})
_NOT_CODE = frozenset({"builtins", "typing", "typing_extensions", "abc"})
_RESOURCES = ("_client", "_api_client", "sdk_configuration")
_LOOKS = frozenset({"__getattr__", "__getattribute__"})


def kind_of(thing: Any) -> Any:
    """Give its class."""
    return thing.__class__


def home_of(thing: Any) -> str:
    """Give the package that a function's code, or an object's class, is of; wrappers' own."""
    scope: Any = getattr(thing, "__globals__", None)
    name = scope.get("__name__") if scope else getattr(thing, "__module__", None)
    return str(name or kind_of(thing).__module__).partition(".")[0]


def is_sdk(thing: Any) -> bool:
    """Whether it is a client that tells where it asks."""
    if isinstance(thing, (type, types.ModuleType)) or not hasattr(thing, "base_url"):
        return False
    return hasattr(thing, "api_key") or not _SDKS.isdisjoint(_roots(kind_of(thing)))


def is_providers(thing: Any) -> bool:
    """Whether it is of a provider's package, a subclass of such a class included."""
    return not _SDKS.isdisjoint((home_of(thing), *_roots(kind_of(thing))))


def client_in(resource: Any) -> Any:
    """Give the client that a part of an API belongs to, or is; None if that can't be seen."""
    if is_sdk(resource):
        return resource
    held = (getattr(resource, name, None) for name in _RESOURCES)
    return next((client for client in held if is_sdk(client)), None)


def is_absent(value: Any) -> bool:
    """Whether it is what an SDK writes for "not given"."""
    return type(value).__name__ in ("NotGiven", "Omit")


def unreadable(sdk: Any, http: Any) -> str:
    """Say what of a client may change its requests and can't be read; empty for nothing."""
    hooks: dict[str, Any] | None = getattr(http, "event_hooks", None)
    if hooks and hooks.get("request"):
        return "hooks that may change requests (event_hooks of the HTTP client)"
    for part in (sdk, http):
        if part is not None and (name := overridden(kind_of(part)) or _replaced(part)):
            return f"a {type(part).__name__} that overrides {name}"
    return ""


def _replaced(part: Any) -> str:
    """A method that was replaced on the object itself."""
    held: dict[str, Any] = getattr(part, "__dict__", {})
    kinds = (types.FunctionType, types.MethodType)
    return next(
        (n for n, v in held.items() if isinstance(v, kinds) and hasattr(kind_of(part), n)), ""
    )


@lru_cache(maxsize=256)
def overridden(cls: Any) -> str:
    """Give the name of something of a provider's class that a subclass of users' overrides."""
    known = _SDKS | _HTTP
    classes: tuple[type, ...] = cls.__mro__
    theirs = [each for each in classes if _root(each) in known]
    names = {n for each in theirs for n in (*vars(each), *vars(each).get("__annotations__", {}))}
    names = {name for name in names if not name.startswith("__")} | _LOOKS
    for each in classes if theirs else ():
        if _root(each) not in known | _NOT_CODE and (found := names & vars(each).keys()):
            return str(min(found))
    return ""


@lru_cache(maxsize=256)
def _roots(cls: Any) -> tuple[str, ...]:
    return tuple(map(_root, cls.__mro__))


def _root(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def cookies_of(http: Any) -> dict[str, Any]:
    """Give the cookies that a client was given, not those that servers have set."""
    jar = getattr(getattr(http, "cookies", None), "jar", ())
    return {f"cookie {c.name}": c.value for c in cast("Any", jar) if _is_given(c)}


def _is_given(cookie: Any) -> bool:
    """Whether it has the form of those that are set by hand, for a domain or for all."""
    rest = getattr(cookie, "_rest", None)
    by_hand = cookie.expires is None and not cookie.secure and rest == {"HttpOnly": None}
    return not cookie.domain or by_hand
