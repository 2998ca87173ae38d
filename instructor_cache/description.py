"""From a type to everything about it that an answer of that type depends on.

Made of what the author of the type wrote (annotations, constraints, defaults, documentation), not
of what Pydantic makes of it: so it is the same under every version of Pydantic and of Python, in
every process, and there is one for every type.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .annotations import closure_of
from .canonical import attributes, canonical
from .identity import identity, module_name

# Of a field: what a value, its stored form, or a prompt made of the schema may depend on.
_FIELD_FACTS = (
    *("default", "default_factory", "alias", "validation_alias", "serialization_alias"),
    *("title", "description", "examples", "json_schema_extra", "discriminator", "deprecated"),
    *("exclude", "frozen", "validate_default", "init", "init_var", "kw_only"),
)
# Of a model: the methods that Pydantic calls; their names and what they captured, not their code.
_VALIDATORS = ("field_validators", "model_validators", "root_validators")
_DECORATED = (*_VALIDATORS, "computed_fields")
_CONTAINERS = (list, tuple, dict, set, frozenset)


def describe(annotation: Any) -> Any:
    """Give a description of the type as nested lists of text, equal for equal types."""
    return _Describer().part(annotation)


class _Describer:
    """Describes each class once; where it occurs again, its name stands for it."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # kept alive: an id means something only that long

    def part(self, part: Any) -> Any:
        if part is Any:  # a class in newer versions of Python
            return str(part)
        origin = typing.get_origin(part)
        if origin is typing.Annotated:
            inner, *metadata = typing.get_args(part)
            return ["annotated", self.part(inner), *map(self.value, metadata)]
        if origin is typing.Literal:
            return ["literal", *map(self.value, typing.get_args(part))]
        if origin is not None:
            name = "union" if origin is types.UnionType else self.part(origin)
            return [name, *map(self.part, typing.get_args(part))]
        if inspect.isclass(part):
            return self._class(part)
        if isinstance(part, list):  # the parameters of a Callable
            return self._parts(part)
        return self._special(part)

    def value(self, value: Any) -> Any:
        """A default, a constraint, a member: in its canonical form, or by what it is made of."""
        if _is_type(value):
            return self.part(value)
        if isinstance(value, FieldInfo):
            return self._field(value)
        try:
            return canonical(value).hex()
        except Exception:  # opaque, cyclic, or its own code failed
            return self._opaque(value)

    def _special(self, part: Any) -> Any:
        if part is typing.Union:
            return "union"
        if type(part).__name__ == "TypeAliasType":
            name = f"{module_name(part)}.{part.__name__}"
            return [name, self._once(part, lambda: self.part(part.__value__))]
        if type(part).__name__ == "NewType":
            return [identity(part), self.part(part.__supertype__)]
        if isinstance(part, typing.TypeVar):
            return [str(part), self.part(part.__bound__), *map(self.part, part.__constraints__)]
        return str(part)

    def _opaque(self, value: Any) -> Any:
        if callable(value) and hasattr(value, "__qualname__"):
            captured = self._captured(value)
            return [identity(value), captured] if captured else identity(value)
        return [type(value).__name__, self._once(value, lambda: self._parts(value))]

    def _parts(self, value: Any) -> list[Any]:
        if isinstance(value, _CONTAINERS):
            return self._items(value, self.value)
        if isinstance(value, partial):
            return [self.value(value.func), self.value(value.args), self.value(value.keywords)]
        shown = attributes(value)  # the private ones differ from version to version
        return self._mapping({name: shown[name] for name in shown if not name.startswith("_")})

    def _items(self, value: Any, each: Callable[[Any], Any]) -> list[Any]:
        if isinstance(value, dict):
            items: Any = value.items()  # pyright: ignore[reportUnknownVariableType]
            return [[each(name), each(item)] for name, item in items]
        if isinstance(value, (set, frozenset)):
            return sorted(map(each, value), key=json.dumps)  # pyright: ignore[reportUnknownArgumentType]
        return list(map(each, value))

    def _once(self, thing: Any, describe: Callable[[], Any]) -> Any:
        if id(thing) in self._seen:
            return f"as number {list(self._seen).index(id(thing))}"
        self._seen[id(thing)] = thing
        return describe()

    def _mapping(self, facts: Mapping[str, Any]) -> list[Any]:
        return [[name, self.value(value)] for name, value in sorted(facts.items())]

    # -- functions: never their code, which differs between versions of Python ------------

    def _captured(self, func: Any) -> Any:
        """What tells a function from others of one factory: its closure, and its defaults."""
        if not (held := _held(func)):
            return []
        return self._once(func, lambda: [[name, self._given(held[name])] for name in sorted(held)])

    def _given(self, value: Any) -> Any:
        """A captured value; one without a form, such as a client, goes by its class."""
        if _is_type(value):
            return self.part(value)
        if type(value) in (tuple, frozenset):  # equal ones may be one object or two
            return self._items(value, self._given)
        if type(value) in _CONTAINERS:
            return self._once(value, lambda: self._items(value, self._given))
        if isinstance(value, types.FunctionType):
            return [identity(value), self._captured(value)]
        try:
            return canonical(value).hex()
        except Exception:  # opaque, or its own code failed
            return identity(value if isinstance(value, types.MethodType) else type(value))

    # -- classes -------------------------------------------------------------------------

    def _class(self, cls: Any) -> Any:
        if cls.__module__ == "builtins":
            return str(cls.__name__)
        return [identity(cls), self._once(cls, lambda: self._inside(cls))]

    def _inside(self, cls: Any) -> Any:
        if issubclass(cls, Enum):
            members = [[name, self.value(m.value)] for name, m in cls.__members__.items()]
            return [_documentation(cls), *members]
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            return self._model(cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(cls)
        if typing.is_typeddict(cls) or hasattr(cls, "_fields") or hasattr(cls, "__attrs_attrs__"):
            return self._annotated(cls)
        return []

    def _model(self, cls: type[BaseModel]) -> list[Any]:
        decorated: Any = cls.__pydantic_decorators__
        private = cls.__private_attributes__
        return [
            _documentation(cls),
            self._mapping(typing.cast("dict[str, Any]", cls.model_config)),
            [[name, *self._field(field)] for name, field in cls.__pydantic_fields__.items()],
            self._hints(cls, private),
            [[self.value(p.default), self.value(p.default_factory)] for p in private.values()],
            [sorted(getattr(decorated, name, ())) for name in _DECORATED],
            *self._validators(cls),
        ]

    def _validators(self, cls: type) -> Iterator[Any]:
        decorated = getattr(cls, "__pydantic_decorators__", None)
        for kind in _VALIDATORS:
            for name, each in sorted(getattr(decorated, kind, {}).items()):
                func = getattr(each.func, "__func__", each.func)
                if _is_from_elsewhere(func, cls):
                    yield [name, self._opaque(func)]
                elif captured := self._captured(each.func):
                    yield [name, captured]

    def _field(self, field: FieldInfo) -> list[Any]:
        facts = {name: getattr(field, name, None) for name in _FIELD_FACTS}
        known = {name: fact for name, fact in facts.items() if fact is not None}
        metadata = [self.value(item) for item in field.metadata]
        return [self.part(field.annotation), metadata, self._mapping(known)]

    def _dataclass(self, cls: Any) -> list[Any]:
        """A dataclass of the standard library or of Pydantic, which holds `FieldInfo`s too."""
        infos: dict[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})
        fields = [[f.name, *map(self.value, _facts(f))] for f in dataclasses.fields(cls)]
        described = [[name, *self._field(info)] for name, info in infos.items()]
        config = self._mapping(getattr(cls, "__pydantic_config__", None) or {})
        written = self._annotated(cls)
        return [_documentation(cls), fields, described, config, written, *self._validators(cls)]

    def _annotated(self, cls: Any) -> list[Any]:
        """A class that is its annotations: a TypedDict, a NamedTuple, an attrs class."""
        facts: dict[str, Any] = {
            "required": getattr(cls, "__required_keys__", None),
            "defaults": getattr(cls, "_field_defaults", None),
        }
        return [*self._hints(cls, _hints(cls)), self._mapping(facts)]

    def _hints(self, cls: Any, names: Iterable[str]) -> list[Any]:
        hints = _hints(cls)
        return [[name, self.part(hints.get(name))] for name in names]


def _is_type(value: Any) -> bool:
    is_class = value is Any or inspect.isclass(value)  # Any is a class in newer Pythons
    return is_class or typing.get_origin(value) is not None


def _is_from_elsewhere(func: Any, cls: type) -> bool:
    """Whether it is no method of a class's body, nor wraps one, which what it captured tells."""
    if any(hasattr(held, "__qualname__") for held in _held(func).values()):
        return False
    bodies = tuple(f"{base.__qualname__}." for base in cls.__mro__)
    name = "" if isinstance(func, partial) else getattr(func, "__qualname__", bodies[0])
    return not name.startswith(bodies)


def _held(func: Any) -> dict[str, Any]:
    inner = getattr(func, "__func__", func)
    defaults: tuple[Any, ...] = getattr(inner, "__defaults__", None) or ()
    return {
        **{name: each for name, each in closure_of(inner).items() if name != "__class__"},
        **{f"default {n}": each for n, each in enumerate(defaults)},
        **(getattr(inner, "__kwdefaults__", None) or {}),
    }


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # a name that only the class's author can resolve
        return dict(getattr(cls, "__annotations__", {}))


def _facts(field: dataclasses.Field[Any]) -> list[Any]:
    return [field.default, field.default_factory, field.init, field.kw_only]


def _documentation(cls: Any) -> str:
    """The docstring that the author wrote; none that Python made up."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    made_up = text.startswith(f"{cls.__name__}(") or text == "An enumeration."
    return "" if made_up else text
