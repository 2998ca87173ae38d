"""Whether a value is of the annotated type at all, its models taken at their class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pydantic_core import CoreSchema, SchemaValidator

from ..identity import generic_parts
from ._kinds import class_of, is_dict, is_tuple
from ._strip import Node

__all__ = ["shape_check"]

ANY: Node = {"type": "any"}


def shape_check(schema: CoreSchema) -> Callable[[Any], bool]:
    """A function that tells values of the schema's type from others, as far as it is known.

    No user code runs: where a function of the user decides, any value will do.
    """
    definitions = {node["ref"]: node for node in _definitions(cast(Node, schema))}
    shape = _shape(cast(Node, schema), definitions)
    check = SchemaValidator(cast(CoreSchema, shape))
    return lambda value: check.isinstance_python(value, strict=True)


def _definitions(schema: Node) -> list[Node]:
    return schema["definitions"] if schema["type"] == "definitions" else []


def _shape(node: Node, definitions: dict[str, Node]) -> Node:
    kind = node["type"]
    if kind in ("model", "dataclass", "is-instance"):
        return _instance(node["cls"])
    if kind in ("definitions", "default", "nullable"):
        inner = _shape(node["schema"], definitions)
        return {"type": "nullable", "schema": inner} if kind == "nullable" else inner
    if kind in ("function-before", "function-after", "function-wrap"):
        inner = _shape(node["schema"], definitions)
        return inner if inner["type"] == "is-instance" else ANY
    if kind == "definition-ref":
        return _referred(node, definitions)
    if kind in ("union", "tagged-union"):
        return _choice(node, definitions)
    if kind in ("list", "set", "frozenset", "dict", "tuple"):
        return _container(node, definitions)
    return {"type": kind} if kind in ("none", "bool", "int", "float", "str", "bytes") else ANY


def _instance(cls: type) -> Node:
    """Of ``M[User]`` is also what ``M(...)`` makes, as type checkers see it."""
    exact: Node = {"type": "is-instance", "cls": cls}
    origin = generic_parts(cls)[0]
    if origin is None:
        return exact
    return {"type": "union", "choices": [exact, {"type": "is-instance", "cls": _Exactly(origin)}]}


class _Exactly:
    """Whose instances are those of a class that are of none of its subclasses."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __instancecheck__(self, value: Any) -> bool:
        return class_of(value) is self._cls


def _referred(node: Node, definitions: dict[str, Node]) -> Node:
    """A definition that leads back to itself other than by a class can be anything."""
    rest = dict(definitions)
    found = rest.pop(node["schema_ref"], ANY)
    return _shape(found, rest)


def _choice(node: Node, definitions: dict[str, Node]) -> Node:
    choices = node["choices"]
    listed: list[Any] = list(choices.values()) if is_dict(choices) else choices
    schemas = [choice[0] if is_tuple(choice) else choice for choice in listed]
    known = [_shape(choice, definitions) for choice in schemas if is_dict(choice)]
    return {"type": "union", "choices": known}


def _container(node: Node, definitions: dict[str, Node]) -> Node:
    shape: Node = {"type": node["type"]}
    for name in ("items_schema", "keys_schema", "values_schema"):
        if isinstance(node.get(name), dict):
            shape[name] = _shape(node[name], definitions)
    if node["type"] == "tuple":
        shape["items_schema"] = [_shape(item, definitions) for item in node["items_schema"]]
        if "variadic_item_index" in node:
            shape["variadic_item_index"] = node["variadic_item_index"]
    return shape
