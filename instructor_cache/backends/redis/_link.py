"""What one caller at a time sends commands with, to one server, within a limit of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError
from typing_extensions import Self

from ._commands import checked
from ._settings import Settings

T = TypeVar("T")

_ANSWERS = (AuthenticationError, AuthorizationError, BusyLoadingError)  # of a server that lives


class Link(ABC):
    """What one caller at a time can send commands with."""

    @abstractmethod
    def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Coroutine[Any, Any, Any]:
        """Give the reply to the command *args*."""

    @abstractmethod
    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        """Give the value of each key, or the error in its place, all asked for at once."""

    async def masters(self) -> list[Settings]:
        """Give how to reach each server that takes writes now."""
        return []

    @abstractmethod
    def drop(self) -> None:
        """Close it; it may still be used again."""


class Unfinished(redis.TimeoutError):
    """The time was over in the middle of a reply: the server lives, but the reply is long."""


class Limit(ABC):
    """A context that what is sent in it must not outlast."""

    @abstractmethod
    def left(self) -> float:
        """Give the seconds that are left."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None: ...


class Connection(Link):
    """A link of our own to one server, connected anew whenever it can't be trusted any more."""

    settings: Settings

    async def masters(self) -> list[Settings]:
        return [self.settings]

    @abstractmethod
    def under(self, limit: Limit) -> None:
        """Let all that follows end within *limit*."""

    async def send(self, args: tuple[Any, ...], again: bool) -> Any:
        """Give the reply to the command *args*, within the limit."""
        return await self._reach(lambda: self.exchange(args), again)

    async def send_gets(self, keys: Sequence[str], again: bool) -> list[Any]:
        """Do what `get_each` does, within the limit."""
        return await self._reach(lambda: self._exchange_gets(keys), again)

    async def _exchange_gets(self, keys: Sequence[str]) -> list[Any]:
        commands = [("GET", key) for key in keys]
        await self.write(commands)
        return [await self.fetch(command) for command in commands]

    async def _reach(self, exchange: Callable[[], Awaitable[T]], again: bool) -> T:
        try:
            if self.is_open():
                try:
                    return await exchange()
                except redis.ConnectionError as error:  # it may have gone stale unseen
                    if not (again and self.settings.retries) or isinstance(error, _ANSWERS):
                        raise
            await self.open()
            return await exchange()
        except redis.ResponseError:  # an answer like any other
            raise
        except BaseException:  # what comes now is no answer to the next
            self.drop()
            raise

    async def post(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send *commands* without waiting for replies; `fetch` each of them, or drop the link."""
        try:
            if not self.is_open():
                await self.open()
            await self.write(commands)
        except BaseException:
            self.drop()
            raise

    async def fetch(self, args: tuple[Any, ...]) -> Any:
        """Give the next reply, which is to *args*, or the server's error."""
        try:
            return checked(args, await self.read())
        except redis.ResponseError as error:
            return error
        except BaseException:
            self.drop()
            raise

    @abstractmethod
    def is_open(self) -> bool:
        """Whether it is connected, and nothing came that nobody asked for: its end, or bytes."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def exchange(self, args: tuple[Any, ...]) -> Any: ...

    @abstractmethod
    async def write(self, commands: Sequence[tuple[Any, ...]]) -> None: ...

    @abstractmethod
    async def read(self) -> Any: ...
