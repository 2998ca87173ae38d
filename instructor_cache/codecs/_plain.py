"""Values of one type as plain JSON by field name, at Rust's speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import CoreConfig, CoreSchema, SchemaSerializer, SchemaValidator

from ..schema import nodes_in
from ._inside import is_fit_for_json
from ._strip import CONFIG, Node, NotPlain, strip

__all__ = ["NotPlain", "Plain", "core_schema_of"]

Built = TypeVar("Built", SchemaSerializer, SchemaValidator)


class Plain:
    """Values of one type to and from plain JSON. Nothing here is verified."""

    def __init__(self, schema: CoreSchema) -> None:
        stripped = strip(cast(Node, schema))
        self.load: Callable[[bytes], Any] = _build(SchemaValidator, stripped).validate_json
        self._to_json = _build(SchemaSerializer, stripped).to_json

    def dump(self, value: Any) -> bytes:
        """The fields that were set, by name; what is not of its type as best it can be.

        Raises NotPlain, and touches nothing, if reading the value would use up a part of it.
        """
        if not is_fit_for_json(value):
            raise NotPlain("something that JSON would lose, or that is read only once")
        return self._to_json(value, by_alias=False, exclude_unset=True, warnings=False)


def core_schema_of(annotation: Any) -> CoreSchema:
    """Pydantic's schema of the annotation; classes that it doesn't know are let through."""
    try:
        adapter = TypeAdapter[Any](annotation)
    except PydanticSchemaGenerationError:
        lenient = ConfigDict(arbitrary_types_allowed=True)
        adapter = TypeAdapter[Any](annotation, config=lenient)
    if not adapter.pydantic_complete:
        adapter.rebuild(force=True)
    return adapter.core_schema


def _build(kind: type[Built], schema: Node) -> Built:
    core, config = cast(CoreSchema, schema), cast(CoreConfig, CONFIG)
    try:
        return kind(core, config, _use_prebuilt=False)
    except TypeError:  # before Pydantic 2.13
        _refuse_nested_classes(schema)
        return kind(core, config)


def _refuse_nested_classes(schema: Node) -> None:
    """Nested, a class would be taken as it was built before, its validators and all."""
    nested = [node for node in nodes_in(schema) if node.get("type") in ("model", "dataclass")]
    if any(node is not schema for node in nested):
        raise NotPlain("a nested class, and this Pydantic has no `_use_prebuilt`")
