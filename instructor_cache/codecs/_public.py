"""Types that bring their own schema and hide their state: through Pydantic's public face.

It is the last resort, and the only form that runs code of the user's on a hit: what such a type
itself says turns it into JSON and back. Where any other code would run too, there is no such form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

from ..schema import nodes_in
from ._inside import holds_one_shot, holds_secret
from ._kinds import is_class, is_dict
from ._strip import Node, NotPlain, is_kept

__all__ = ["Public"]

_HOOK = "__get_pydantic_core_schema__"


class Public:
    """Values to and from the JSON that Pydantic makes of them. Nothing here is verified."""

    def __init__(self, schema: CoreSchema, *, secrets: bool) -> None:
        functions = [found for node in nodes_in(schema) for found in _functions(node)]
        strange = [one for one in functions if not is_kept(one) and not _is_of_a_type(one)]
        if strange or all(map(is_kept, functions)):
            raise NotPlain("code that is not a type's own, or no such type at all")
        self._secrets = secrets
        self.load: Callable[[bytes], Any] = SchemaValidator(schema).validate_json
        self._to_json = SchemaSerializer(schema).to_json

    def dump(self, value: Any) -> bytes:
        """The fields that were set, as the types in them are wont to be written.

        Raises NotPlain, and runs nothing, where that would use up a value or tell a secret.
        """
        if holds_one_shot(value):
            raise NotPlain("something that is read only once")
        if not self._secrets and holds_secret(value):
            raise NotPlain("a secret, and a type is free to write it in full")
        return self._to_json(
            value, by_alias=True, exclude_unset=True, round_trip=True, warnings=False
        )


def _functions(node: Node) -> list[Any]:
    """Whatever a node of a schema would call, and the user may have written."""
    function = node.get("function")
    function = function.get("function") if is_dict(function) else function
    others = [node.get(name) for name in ("default_factory", "post_init", "exclude_if")]
    init = node.get("cls") if node.get("custom_init") else None
    discriminator = cast(Any, node.get("discriminator"))
    chosen = discriminator if callable(discriminator) else None
    return [one for one in (function, *others, init, chosen) if one]


def _is_of_a_type(function: Any) -> bool:
    """Whether a type that has a schema of its own wrote the function for that schema."""
    while isinstance(function, partial):
        function = cast(Any, function.func)
    if f"{_HOOK}.<locals>." in getattr(function, "__qualname__", ""):
        return True
    owner = getattr(function, "__self__", function)
    return is_class(owner) and hasattr(owner, _HOOK) and not issubclass(owner, BaseModel)
