"""What is asked of a type: whether it holds a model, and a fingerprint that follows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from .description import describe


def fingerprint(annotation: Any) -> str:
    """Give 16 hexadecimal digits that stand for the type, its fields, and theirs."""
    text = json.dumps(describe(annotation))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_fingerprint(model: type[BaseModel]) -> str:
    """Give the fingerprint of a model class, computed once for each class."""
    if (found := _of_models.get(model)) is None:
        model.model_rebuild(raise_errors=False)  # its forward references may be defined by now
        found = fingerprint(model)
        if model.__pydantic_complete__:
            _of_models[model] = found
    return found


def holds_model(schema: Any) -> bool:
    """Whether a core schema has a Pydantic model or a Pydantic dataclass anywhere in it."""
    return any(hasattr(cls, "__pydantic_validator__") for cls in classes_in(schema))


def classes_in(schema: Any) -> Iterator[type[Any]]:
    """Give the classes that a core schema builds, found wherever they nest."""
    return (node["cls"] for node in nodes_in(schema) if isinstance(node.get("cls"), type))


def nodes_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Give the dictionaries that a core schema is made of, found wherever they nest."""
    if not isinstance(schema, (dict, list, tuple)):
        return
    parts: Any = schema  # pyright: ignore[reportUnknownVariableType]
    if isinstance(schema, dict):
        yield parts
        # metadata may hold whatever a library put there, back references included
        parts = [part for name, part in parts.items() if name not in ("metadata", "default")]
    for part in parts:
        yield from nodes_in(part)


_of_models: WeakKeyDictionary[type[BaseModel], str] = WeakKeyDictionary()
