"""Which tags the answer to a call has: fixed ones, and those that its arguments tell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

from ._binder import binder
from ._tagged import tag_key
from .errors import UnkeyableArgument

Tag = str | Callable[..., "str | Iterable[str] | None"]

_MOST = 255  # of one call
_WANTED = (
    "give text, or a callable of the call's arguments: "
    'tags=("users", lambda user_id: f"user:{user_id}")'
)


class Tags:
    """The tags of one function's calls.

    Args:
        func: The function.
        tags: One, or several. Each is text, or a callable that gives a tag, or several, or None.
            It is called with those of the call's arguments that it names.
    """

    def __init__(self, func: Callable[..., Any], tags: Tag | Iterable[Tag]) -> None:
        self.given = listed(tags)
        self._function = func.__qualname__
        self._fixed = {_key(tag) for tag in self.given if not callable(tag)}
        self._makers = [(tag, _names(tag, func)) for tag in self.given if callable(tag)]
        self._parameters, self._bind = binder(func)

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        """Give the keys under which the epochs of a call's tags are kept.

        Raises UnkeyableArgument if a callable fails.
        """
        found = set(self._fixed)
        if self._makers:
            values = self._values(args, kwargs)
            for make, names in self._makers:
                found |= self._made(make, names, values)
        if len(found) > _MOST:
            raise UnkeyableArgument(
                f"{self._function}: found {len(found)} tags, where an answer may have {_MOST}; "
                f"tag it more coarsely",
                "tags",
            )
        return tuple(sorted(found))

    def _values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        values = dict(zip(self._parameters, self._bind(*args, **kwargs), strict=True))
        for name in kwargs:  # those that the function takes by **
            values.setdefault(name, kwargs[name])
        return values

    def _made(
        self, make: Callable[..., Any], names: list[str] | None, values: dict[str, Any]
    ) -> set[str]:
        try:
            chosen = values if names is None else {n: values[n] for n in names if n in values}
            made = make(**chosen)
            several = [made] if isinstance(made, str) else made or ()
            return {_key(tag) for tag in several}
        except Exception as error:
            raise UnkeyableArgument(
                f"{self._function}: a function of tags= raised {type(error).__name__}; "
                f"it must give text, several texts or None for every call, and may name what this "
                f"one has: {', '.join(n for n in values if n.isidentifier() and n[0] != '_')}",
                "tags",
            ) from error


def listed(tags: Any) -> tuple[Any, ...]:
    """Give *tags*, one or several, as a tuple; raise TypeError for what can be neither."""
    if isinstance(tags, str) or callable(tags):
        return (tags,)
    if isinstance(tags, (bytes, dict)) or not hasattr(tags, "__iter__"):
        raise TypeError(f"tags is {tags!r}; {_WANTED}")
    return tuple(cast("Iterable[Any]", tags))


def _key(tag: Any) -> str:
    """The key of a tag's epoch."""
    if not isinstance(tag, str):
        raise TypeError(f"found the tag {tag!r}; {_WANTED}")
    if not tag:
        raise ValueError("found an empty tag; give it a name, or leave it out")
    return tag_key(tag)


def _names(make: Callable[..., Any], func: Callable[..., Any]) -> list[str] | None:
    """The arguments that *make* wants; None for all."""
    if inspect.iscoroutinefunction(make):
        raise TypeError(f"found the coroutine function {make!r} in tags=; give a plain one")
    try:
        wanted = inspect.signature(make).parameters.values()
    except ValueError:
        raise TypeError(f"found {make!r} in tags=, which hides its parameters; {_WANTED}") from None
    if any(p.kind is p.VAR_KEYWORD for p in wanted):
        return None
    offered = inspect.signature(func).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in offered.values())
    for p in wanted:
        by_name = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if not (by_name and (p.name in offered or takes_any or p.default is not p.empty)):
            raise ValueError(
                f"a function of tags= takes {p!s}, which {func.__qualname__} can't give by name; "
                f"name its parameters: {', '.join(offered) or 'it has none'}"
            )
    return [p.name for p in wanted]


def keys_of(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Give the keys of the epochs of *tags*; raise TypeError or ValueError for what is no tag."""
    if not tags:
        raise ValueError('found no tag; name one at least: cache.invalidate_tags("users")')
    return tuple(map(_key, tags))
