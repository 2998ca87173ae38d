"""Which parts of a value are not shown because of what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._masks import looks_random
from ._names import is_secret, is_vague
from ._parts import class_of

# Where one item of a dict says what another one is, as {"name": "api_key", "value": ...} does.
_LABELS = {"name": "value", "key": "value", "header": "value", "type": "key"}
_SEVERAL = (list, tuple, set, frozenset)


def is_hidden(name: Any, value: Any) -> bool:
    """Whether that *name*, or one in a tuple, makes the *value* secret."""
    if value is None or type(value) is bool or (type(value) is str and not value):
        return False
    if class_of(name) is tuple:
        return any(is_hidden(part, value) for part in name)
    text = _text(name)
    return text is not None and (is_secret(text) or (is_vague(text) and _is_random(value)))


def is_header(values: Any) -> bool:
    """Whether *values* are a name and what it makes secret, in HTTP/2 with a flag."""
    if len(values) != 2 and not (len(values) == 3 and type(values[2]) is bool):
        return False
    name = values[0]
    return type(name) in (str, bytes) and len(name.split()) == 1 and is_hidden(name, values[1])


def labelled(items: Mapping[Any, Any]) -> set[str]:
    """Give the names of *items* that are secret by what another one says."""
    return {held for label, held in _LABELS.items() if _tells(items.get(label))}


def _tells(label: Any) -> bool:
    return type(label) is str and is_secret(label)


def _is_random(value: Any) -> bool:
    """Whether it is, or has, a text such as no word looks."""
    texts = map(_text, value if type(value) in _SEVERAL else (value,))
    return any(text is not None and looks_random(text) for text in texts)


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None
