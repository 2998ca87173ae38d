"""From the arguments of one call of a client to what counts of them in its key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from .._masks import is_credential
from ._account import asked_by, constants_of, is_absent, sorted_out

__all__ = ["Request", "Reader"]

# What can't change an answer: how often and how long is tried, who is told, and who is billed.
_IGNORED = frozenset(
    {
        *("max_retries", "token_budget", "timeout", "hooks", "cache", "cache_ttl"),
        *("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    }
)
_LONGEST_PATH = 1024
# What instructor takes for itself: the provider, and its hooks, never see it.
_OWN = frozenset(
    {
        *("response_model", "context", "validation_context", "strict", "max_retries", "hooks"),
        *("token_budget", "cache", "cache_ttl", "cache_namespace", "autodetect_images"),
    }
)


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
        return "parallel" in _text(self.client.mode)

    def read(self, kwargs: dict[str, Any]) -> Request:
        """Give the call with these arguments."""
        made = constants_of(self.create)
        model = kwargs.get("model")
        default = made.pop("default_model", None)
        settings = {name: each for name, each in kwargs.items() if name not in _IGNORED}
        secret = {name: settings.pop(name) for name in list(settings) if is_credential(name)}
        headers, secret_headers = sorted_out(settings.pop("extra_headers", None))
        counted = {name: each for name, each in settings.items() if not is_absent(each)}
        counted["model"] = default if model is None else model
        if headers:
            counted["extra_headers"] = headers
        if settings.get("autodetect_images"):
            counted["files"] = sorted(_files_in(kwargs.get("messages")))
        captured = {name: made.pop(name) for name in list(made) if is_credential(name)}
        counted["_client"] = self._client(made, captured | secret | secret_headers)
        return Request(_with_own_messages(kwargs), counted)

    def _client(self, made: dict[str, Any], secret: dict[str, Any]) -> dict[str, Any]:
        asked = asked_by(self.client.client, self.create)
        return {
            "mode": _text(self.client.mode),
            "provider": _text(self.client.provider),
            "made": made,
            "endpoint": asked.place,
            "account": asked.account(secret) if self.namespace is None else self.namespace,
        }


def _text(member: Any) -> str:
    """A mode or provider as it is written: its class lives elsewhere in each instructor."""
    return str(getattr(member, "value", member))


def _files_in(part: Any) -> Iterator[tuple[str, str]]:
    """The files that instructor will read because a message is the path of one."""
    parts: Any = part
    if isinstance(part, str):
        if len(part) < _LONGEST_PATH and Path(part).is_file():
            yield part, hashlib.sha256(Path(part).read_bytes()).hexdigest()
    elif type(part) in (list, dict):
        for each in parts if type(part) is list else parts.values():
            yield from _files_in(each)


def _with_own_messages(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with a copy of the messages: instructor 1.9 writes its prompts into them."""
    messages = kwargs.get("messages")
    return {**kwargs, "messages": _copied(messages)} if type(messages) is list else kwargs


def _copied(part: Any) -> Any:
    parts: Any = part
    if type(part) is dict:
        return {name: _copied(each) for name, each in parts.items()}
    return [_copied(each) for each in parts] if type(part) is list else part
