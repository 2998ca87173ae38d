"""From a type to a fingerprint that changes when the type does."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


def identity(thing: Any) -> str:
    """Give the dotted name by which a class or function is known in every process.

    The main script goes by its file's stem (or by its module name under ``python -m``), so that
    running a module and importing it agree.
    """
    return f"{module_name(thing)}.{thing.__qualname__}"


def module_name(thing: Any) -> str:
    """Give the name of the module where a class or function was defined, in every process."""
    module: str = thing.__module__ or "builtins"
    return _main_name() if module in ("__main__", "__mp_main__") else module


def fingerprint(adapter: TypeAdapter[Any]) -> str:
    """Give 16 hexadecimal digits that stand for the type's schema and its classes' names."""
    facts = [
        adapter.json_schema(mode="validation", by_alias=True, schema_generator=_Describe),
        adapter.json_schema(mode="serialization", by_alias=False, schema_generator=_Describe),
        sorted({identity(cls) for cls in classes_in(adapter.core_schema)}),
        sorted(_hidden_defaults(adapter.core_schema)),
    ]
    text = json.dumps(facts, sort_keys=True, default=lambda thing: identity(type(thing)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def model_fingerprint(model: type[BaseModel]) -> str:
    """Give the fingerprint of a model class, computed once for each class."""
    if (found := _of_models.get(model)) is None:
        found = _of_models[model] = fingerprint(TypeAdapter(model))
    return found


def holds_model(schema: Any) -> bool:
    """Whether a core schema has a Pydantic model or a Pydantic dataclass anywhere in it."""
    return any(hasattr(cls, "__pydantic_validator__") for cls in classes_in(schema))


_of_models: WeakKeyDictionary[type[BaseModel], str] = WeakKeyDictionary()


def _main_name() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def classes_in(schema: Any) -> Iterator[type[Any]]:
    """The classes that a core schema builds, found wherever they nest."""
    return (node["cls"] for node in nodes_in(schema) if isinstance(node.get("cls"), type))


def _hidden_defaults(schema: Any) -> Iterator[str]:
    """The defaults that payloads leave to the schema; a JSON schema may not tell them all."""
    for node in nodes_in(schema):
        default = node.get("default")
        if node.get("type") == "default" and isinstance(default, (bool, int, float, str)):
            yield f"{type(default).__name__} {default!r}"


def nodes_in(schema: Any) -> Iterator[dict[str, Any]]:
    """The dictionaries that a core schema is made of, wherever they nest."""
    if not isinstance(schema, (dict, list, tuple)):
        return
    parts: Any = schema  # pyright: ignore[reportUnknownVariableType]
    if isinstance(schema, dict):
        yield parts
        # metadata may hold whatever a library put there, back references included
        parts = [part for name, part in parts.items() if name not in ("metadata", "default")]
    for part in parts:
        yield from nodes_in(part)


class _Describe(GenerateJsonSchema):
    """A JSON schema for any type: what JSON Schema has no words for is named instead."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        cls = schema.get("cls")
        name = identity(cls) if isinstance(cls, type) else error_info
        return {"python": schema["type"], "name": name}

    def encode_default(self, dft: Any) -> Any:
        encode = super().encode_default
        if isinstance(dft, (set, frozenset)):  # their order differs from process to process
            items: Any = dft  # pyright: ignore[reportUnknownVariableType]
            return sorted((encode(item) for item in items), key=json.dumps)
        return encode(dft)

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Say nothing: nobody reads this schema."""
