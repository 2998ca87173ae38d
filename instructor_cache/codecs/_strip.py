"""Pydantic's own schema of a type, less the user's code.

What the user's functions, constraints, aliases and exclusions would make of a value is not
our concern: the value exists already, and is to come back as it is. Functions of Pydantic's
own stay where they are what turns text into a value (paths, addresses, URLs).
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from operator import attrgetter
from types import FunctionType, MethodType, NoneType
from typing import Any

from pydantic._internal import _generate_schema

from ._kinds import WRITTEN_AS_TEXT, is_dict, is_list, is_tuple

__all__ = ["CONFIG", "Node", "NotPlain", "is_kept", "strip"]

Node = dict[str, Any]


class NotPlain(Exception):
    """The type has values that plain JSON can't hold, or a schema that is not known here."""


def strip(node: Node) -> Node:
    """The schema as it would be if its author had written types only."""
    rule = _RULES.get(node["type"])
    if rule is None:
        raise NotPlain(f"a schema of type {node['type']!r}")
    stripped = rule(node)
    if "ref" in node:
        stripped = {**stripped, "ref": node["ref"]}
    if "serialization" in node and is_kept(node["serialization"].get("function")):
        stripped = {**stripped, "serialization": node["serialization"]}
    return stripped


def _verbatim(*names: str) -> Callable[[Node], Node]:
    kept = ("type", *names)
    return lambda node: {name: node[name] for name in kept if name in node}


def _around(*names: str) -> Callable[[Node], Node]:
    """Rebuilds the schemas under those names, alone or in a list."""

    def rule(node: Node) -> Node:
        return {"type": node["type"]} | {
            name: _strip_all(node[name]) for name in names if name in node
        }

    return rule


def _strip_all(inner: Any) -> Any:
    return [_strip_choice(item) for item in inner] if is_list(inner) else strip(inner)


def _strip_choice(choice: Any) -> Node:
    return strip(choice[0] if is_tuple(choice) else choice)


def _inner(node: Node) -> Node:
    return strip(node["schema"]) if "schema" in node else {"type": "any"}


def _function(node: Node) -> Node:
    if not is_kept(node["function"]["function"]):
        return _inner(node)
    kept = {name: node[name] for name in ("type", "function")}
    return kept | ({"schema": strip(node["schema"])} if "schema" in node else {})


def is_kept(function: Any) -> bool:
    """Whether the function is Pydantic's own, and one that makes a value out of text."""
    while type(function) is partial:
        function = function.func
    if type(function) is attrgetter or any(function is cls for cls in _KEPT_CLASSES):
        return True
    if type(function) is MethodType:
        function = function.__func__
    return type(function) is FunctionType and _is_kept_function(function)


def _is_kept_function(function: FunctionType) -> bool:
    """By what it sees as its globals: its name and module are whatever `wraps` copied there."""
    if function.__globals__ is _generate_schema.__dict__:
        return True
    return any(
        function.__globals__ is sys.modules[module].__dict__ and function.__code__.co_name in names
        for module, names in _KEPT_NAMES.items()
        if module in sys.modules
    )


# Not kept: import_string, which would import what a payload says, and checks of constraints.
_KEPT_NAMES: dict[str, frozenset[str]] = {
    "pydantic.networks": frozenset({"wrap_val", "serialize_url", "_serialize_url"}),
    "pydantic._internal._serializers": frozenset({"serialize_sequence_via_list"}),
    "pydantic._internal._validators": frozenset(
        {"sequence_validator", "defaultdict_validator", "validate_str_is_valid_iana_tz"}
        | {f"pattern_{kind}_validator" for kind in ("either", "str", "bytes")}
        | {
            f"ip_v{version}_{kind}_validator"
            for version in (4, 6)
            for kind in ("address", "network", "interface")
        }
    ),
}
_KEPT_CLASSES = (OrderedDict, Counter, deque, defaultdict, *WRITTEN_AS_TEXT)


def _default(node: Node) -> Node:
    """Keeps what a JSON schema tells of, so that a new default means a new key."""
    inner = strip(node["schema"])
    if "default" in node and _is_constant(node["default"]):
        return {"type": "default", "schema": inner, "default": node["default"]}
    if node.get("default_factory") in (list, dict, set):
        return {"type": "default", "schema": inner, "default_factory": node["default_factory"]}
    return inner


def _is_constant(default: Any) -> bool:
    if is_list(default) or is_dict(default):
        return not default
    return type(default) in {NoneType, bool, int, float, str} or isinstance(default, Enum)


def _fields(node: Node) -> Node:
    """Model fields, a typed dictionary or a dataclass's arguments."""
    kept = ("type", "model_name", "dataclass_name", "cls_name", "cls", "total", "extra_behavior")
    stripped = {name: node[name] for name in kept if name in node}
    if is_dict(node["fields"]):
        stripped["fields"] = {name: _field(field) for name, field in node["fields"].items()}
    else:
        stripped["fields"] = [_field(field) for field in node["fields"]]
    for name in ("extras_schema", "extras_keys_schema"):
        if name in node:
            stripped[name] = strip(node[name])
    return stripped | _config(node)


def _field(field: Node) -> Node:
    if field.get("init_only"):
        raise NotPlain(f"the InitVar {field['name']!r}")
    kept = ("type", "name", "required", "kw_only", "init")
    stripped = {name: field[name] for name in kept if name in field}
    return stripped | {"schema": strip(field["schema"])}


def _config(node: Node) -> Node:
    """What says how bytes and extra fields are written; the rest checks or changes values."""
    if "config" not in node:
        return {}
    extra = node["config"].get("extra_fields_behavior")
    return {"config": CONFIG | ({"extra_fields_behavior": extra} if extra else {})}


CONFIG: Node = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "ser_json_inf_nan": "strings",
}


def _model(node: Node) -> Node:
    _refuse_own_new(node["cls"])
    if getattr(node["cls"], "__private_attributes__", None):
        raise NotPlain(f"the private attributes of {node['cls'].__qualname__}")
    kept = ("type", "cls", "generic_origin", "root_model")
    stripped = {name: node[name] for name in kept if name in node}
    return stripped | {"schema": strip(node["schema"])} | _config(node)


def _refuse_own_new(cls: type) -> None:
    own_new: Any = cls.__new__
    if own_new is not object.__new__:
        raise NotPlain(f"the __new__ of {cls.__qualname__}, which would run")


def _dataclass(node: Node) -> Node:
    _refuse_own_new(node["cls"])
    kept = ("type", "cls", "generic_origin", "cls_name", "fields", "slots", "frozen")
    stripped = {name: node[name] for name in kept if name in node}
    return stripped | {"schema": strip(node["schema"])} | _config(node)


def _named_tuple(node: Node) -> Node:
    if node["cls"].__bases__[0] is not tuple:
        return {"type": "any"}  # its `__new__` may be the user's
    return {"type": "named-tuple", "cls": node["cls"], "fields": list(map(_field, node["fields"]))}


def _union(node: Node) -> Node:
    choices = list(map(_strip_choice, node["choices"]))
    return {"type": "union", "choices": choices, "mode": node.get("mode", "smart")}


def _tagged_union(node: Node) -> Node:
    """Its discriminator may be a function or an alias: the choices tell themselves apart."""
    choices = [choice for choice in node["choices"].values() if is_dict(choice)]
    return {"type": "union", "choices": list(map(strip, choices))}


def _generator(node: Node) -> Node:
    items = {"items_schema": strip(node["items_schema"])} if "items_schema" in node else {}
    return {"type": "list"} | items


def _definitions(node: Node) -> Node:
    definitions = list(map(strip, node["definitions"]))
    return {"type": "definitions", "schema": strip(node["schema"]), "definitions": definitions}


_RULES: dict[str, Callable[[Node], Node]] = {
    **dict.fromkeys(("any", "none", "bool", "int", "float", "decimal", "complex"), _verbatim()),
    **dict.fromkeys(("str", "bytes", "date", "time", "datetime", "timedelta"), _verbatim()),
    **dict.fromkeys(("uuid", "fraction", "ellipsis", "missing-sentinel"), _verbatim()),
    "literal": _verbatim("expected"),
    "enum": _verbatim("cls", "members", "sub_type"),
    "is-instance": _verbatim("cls"),
    "definition-ref": _verbatim("schema_ref"),
    "url": _verbatim("default_host", "default_port", "default_path", "preserve_empty_path"),
    "multi-host-url": _verbatim(
        "default_host", "default_port", "default_path", "preserve_empty_path"
    ),
    **dict.fromkeys(("list", "set", "frozenset", "deque"), _around("items_schema")),
    **dict.fromkeys(
        ("dict", "frozendict", "ordered-dict", "counter"), _around("keys_schema", "values_schema")
    ),
    "tuple": lambda node: _around("items_schema")(node) | _verbatim("variadic_item_index")(node),
    "generator": _generator,
    "nullable": _around("schema"),
    "chain": _around("steps"),
    "json-or-python": _around("json_schema", "python_schema"),
    "lax-or-strict": _around("lax_schema", "strict_schema"),
    **dict.fromkeys(("custom-error", "json"), _inner),
    **dict.fromkeys(("function-before", "function-after"), _function),
    **dict.fromkeys(("function-wrap", "function-plain"), _function),
    "default": _default,
    **dict.fromkeys(("model-fields", "typed-dict", "dataclass-args"), _fields),
    "model": _model,
    "dataclass": _dataclass,
    "named-tuple": _named_tuple,
    "union": _union,
    "tagged-union": _tagged_union,
    "definitions": _definitions,
}
