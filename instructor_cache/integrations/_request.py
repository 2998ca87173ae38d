"""From the arguments of one call of a client to what counts of them in its key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, cast

from .._names import is_credential
from ..canonical import canonical
from ..errors import UnkeyableArgument
from ._account import Place, asked_by
from ._answers import described
from ._captured import Captured, captured_by
from ._frozen import Ordered, frozen, ordered
from ._headers import sorted_out, veiled
from ._sdk import home_of, is_absent

__all__ = ["Request", "Reader", "taken_of"]

# What can't change an answer: who is behind the call; how often and how long is tried, who is told.
_ASKERS = frozenset({"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
_IGNORED = _ASKERS | {"max_retries", "token_budget", "timeout", "hooks", "cache", "cache_ttl"}
_LONGEST_PATH = 1024
# What instructor takes for itself: the provider, and its hooks, never see it.
_OWN = frozenset(
    {
        *("response_model", "context", "validation_context", "strict", "max_retries", "hooks"),
        *("token_budget", "cache", "cache_ttl", "cache_namespace", "autodetect_images"),
    }
)
_DATA = frozenset({"context", "validation_context"})


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        kwargs: What to call instructor's function with.
        counted: What counts of it, by the names of its parameters.
    """

    kwargs: dict[str, Any]
    counted: dict[str, Any]

    @property
    def hooks(self) -> Any:
        """instructor's hooks for the call; None if it has none."""
        return self.kwargs.get("hooks")

    @property
    def sent(self) -> dict[str, Any]:
        """What goes to the provider, as far as that is known without asking it."""
        model = {} if self.counted["model"] is None else {"model": self.counted["model"]}
        sent = {name: value for name, value in self.kwargs.items() if name not in _OWN}
        return model | sent


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the calls of one client.

    Attributes:
        client: The instructor client.
        create: Its function that makes calls.
        namespace: What stands for its account in keys; None for the account itself.
    """

    client: Any
    create: Any
    namespace: str | None

    @property
    def name(self) -> str:
        """What its calls go by in keys and events."""
        return "instructor.create" + ("" if self.namespace is None else f"@{self.namespace}")

    @property
    def is_async(self) -> bool:
        """Whether its calls are coroutines."""
        return iscoroutinefunction(self.create)

    @property
    def is_parallel(self) -> bool:
        """Whether several tools are called at once."""
        captured = captured_by(self.create, self.client.client)
        return "parallel" in _text(captured.own.get("mode", self.client.mode))

    def read(self, kwargs: dict[str, Any]) -> Request:
        """Give the call with these arguments, which nobody else can change."""
        taken = taken_of(kwargs).items()
        kwargs = {n: each if n in _OWN - _DATA else frozen(each) for n, each in taken}
        captured = captured_by(self.create, self.client.client)
        model = kwargs.get("model")
        counted = _counted(kwargs)
        counted["model"] = captured.own.get("default_model") if model is None else model
        if kwargs.get("autodetect_images"):
            counted["files"] = sorted(_files_in(kwargs.get("messages")))
        counted["_client"] = self._client(captured, kwargs)
        return Request(kwargs, counted)

    def has_moved(self, request: Request) -> bool:
        """Whether the client asks elsewhere by now, or on another account."""
        captured = captured_by(self.create, self.client.client)
        try:
            return canonical(self._client(captured, request.kwargs)) != canonical(
                request.counted["_client"]
            )
        except UnkeyableArgument:
            return True

    def changed(self, request: Request) -> str:
        """Give the name of a setting that is another one by now; empty for none."""
        before = request.counted["_client"]["endpoint"]
        now = asked_by(captured_by(self.create, self.client.client)).place
        are_known = isinstance(before, Place) and isinstance(now, Place)
        return now.changed(before) if are_known else ""

    def _client(self, captured: Captured, kwargs: dict[str, Any]) -> dict[str, Any]:
        asked = asked_by(captured)
        secret = {name: each for name, each in kwargs.items() if is_credential(name)}
        secret |= sorted_out(kwargs.get("extra_headers"))[1]
        return {
            **self._own(captured),
            "endpoint": asked.place,
            "account": asked.account(secret) if self.namespace is None else self.namespace,
        }

    def _own(self, captured: Captured) -> dict[str, str]:
        """Mode and provider, as the function was given them, and the client."""
        modes = (captured.own.get("mode", self.client.mode), self.client.mode)
        provider = _text(captured.own.get("provider", self.client.provider))
        is_openai = any(home_of(type(sdk)) == "openai" for sdk in captured.clients)
        if provider == "unknown" and is_openai:  # which old versions of instructor call it
            provider = "openai"
        return {"mode": "/".join(dict.fromkeys(map(_text, modes))), "provider": provider}


def taken_of(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Give those that this instructor takes: one without a cache of its own knows no ttl."""
    if "cache_ttl" not in kwargs or _has_cache():
        return kwargs
    return {name: each for name, each in kwargs.items() if name != "cache_ttl"}


@lru_cache(maxsize=1)
def _has_cache() -> bool:
    return find_spec("instructor.cache") is not None


def _counted(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments that count, by their names."""
    counted = {
        name: each if name in _OWN - _DATA else veiled(name, ordered(each))
        for name, each in kwargs.items()
        if not (name in _IGNORED or is_credential(name) or is_absent(each))
    }
    if counted.get("response_model") is not None:
        counted["response_model"] = described(counted["response_model"])
    for name in ("context", "validation_context"):
        if counted.get(name, True) is None:
            del counted[name]
    headers, _ = sorted_out(counted.pop("extra_headers", None))
    body = counted.pop("extra_body", None)
    if isinstance(body, Ordered):
        body = Ordered({n: body[n] for n in body if n not in _ASKERS}) or None
    more = {"extra_headers": headers or None, "extra_body": body}
    return counted | {name: each for name, each in more.items() if each is not None}


def _text(member: Any) -> str:
    """A mode or provider as it is written: its class lives elsewhere in each instructor."""
    return str(getattr(member, "value", member))


def _files_in(part: Any) -> Iterator[tuple[str, str]]:
    """The files that instructor will read because a message is the path of one."""
    parts: Any = cast("Any", part).values() if isinstance(part, Mapping) else part
    if isinstance(part, str):
        if len(part) < _LONGEST_PATH and Path(part).is_file():
            yield part, hashlib.sha256(Path(part).read_bytes()).hexdigest()
    elif isinstance(part, (list, tuple, Mapping)):
        for each in parts:
            yield from _files_in(each)
