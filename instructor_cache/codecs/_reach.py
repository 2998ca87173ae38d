"""The classes that an annotation can lead to: those it names, and their loaded subclasses."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import get_type_hints

from ..identity import generic_parts, module_name
from ..schema import classes_in

__all__ = [
    "SDKS",
    "Reach",
    "is_fresh",
    "is_partial",
    "name_of",
    "named_classes",
    "own_class",
    "own_classes_in",
]

# Their models have a `construct` that takes what the provider sent, drift and all.
SDKS = ("openai", "anthropic", "groq", "cerebras.cloud.sdk", "writerai", "together")
_SDK_PACKAGES = tuple(f"{package}." for package in SDKS)

# Their instances have tags of their own, or none at all.
_NATIVE_MODULES = frozenset({"abc", "builtins", "collections", "collections.abc", "typing"})


def name_of(cls: type) -> str:
    """`module:qualname`, the name under which a payload speaks of a class."""
    return f"{module_name(cls)}:{cls.__qualname__}"


class Reach:
    """The named classes and their loaded subclasses. Nothing else can be found here."""

    def __init__(self, named: Iterable[type]) -> None:
        self._named = dict.fromkeys(named)
        self._by_name: dict[str, type | None] = {}

    def __contains__(self, cls: type) -> bool:
        return cls in self._named

    def __iter__(self) -> Iterator[type]:
        return iter(self._named)

    def leads_to(self, cls: type) -> bool:
        """Whether it is one of the named classes, or a subclass of one."""
        return any(base in self._named for base in cls.__mro__)

    def name(self, cls: type) -> str | None:
        """The name that `find` answers with this very class, or None if there is none."""
        name = name_of(cls)
        return name if self._lookup(name, cls) is cls else None

    def find(self, name: str) -> type:
        """The class of that name; LookupError if there is none, or more than one."""
        found = self._lookup(name)
        if found is None:
            raise LookupError(f"no class {name!r} is reachable from the annotation")
        return found

    def is_ambiguous(self, cls: type) -> bool:
        """Whether several classes in reach have the name of this one."""
        return self._names().get(name_of(cls), cls) is None

    def _lookup(self, name: str, wanted: type | None = None) -> type | None:
        found = self._by_name.get(name)
        if found is None or (wanted is not None and found is not wanted):
            self._by_name = self._names()  # a subclass may have been loaded since
            found = self._by_name.get(name)
        return found

    def _names(self) -> dict[str, type | None]:
        """A name that two subclasses share means neither; a named class goes before both."""
        return _unambiguous(_subclasses(self._named)) | _unambiguous(self._named)


def _unambiguous(classes: Iterable[type]) -> dict[str, type | None]:
    groups: defaultdict[str, set[type]] = defaultdict(set)
    for cls in classes:
        groups[name_of(cls)].add(cls)
    return {name: group.pop() if len(group) == 1 else None for name, group in groups.items()}


def _subclasses(classes: Iterable[type]) -> set[type]:
    found: set[type] = set()
    pending = list(classes)
    while pending:
        subclasses: list[type[Any]] = type.__subclasses__(pending.pop())
        for cls in subclasses:
            if cls not in found and not is_fresh(cls):
                found.add(cls)
                pending.append(cls)
    return found


def is_fresh(cls: type) -> bool:
    """Whether a library made the class, where it had to have one that says what it works on.

    instructor does, for one call or for the snapshots of a stream, and so do the SDKs that parse. A
    class that someone wrote is none, even if it has the same bases.
    """
    return is_partial(cls) or _is_namesake(cls) or _is_parsed(cls)


def own_class(cls: type) -> type:
    """The class that someone wrote behind one that a library may have made of it."""
    while is_fresh(cls):
        cls = cls.__bases__[0]
    return cls


def is_partial(cls: type) -> bool:
    """Whether it is `Partial[UserDetail]`, in which every field may be missing."""
    is_ours = any(base.__name__ == "PartialBase" and _is_instructors(base) for base in cls.__mro__)
    return is_ours and cls.__name__.startswith("Partial") and not _is_at_home(cls)


def _is_parsed(cls: type) -> bool:
    """Whether it is an SDK's ``M[User]`` or ``M[T]``, which says what the fields of ``M`` say."""
    return generic_parts(cls)[0] is not None and module_name(cls).startswith(_SDK_PACKAGES)


def _is_namesake(cls: type) -> bool:
    """Whether it is called as its base, and has nothing new."""
    own, *others = cls.__bases__
    if not others or cls.__name__ != own.__name__ or not all(map(_is_schema_mixin, others)):
        return False
    names = {name for name in vars(cls) if not name.startswith("__pydantic_")}
    return names <= _MADE_ANEW and _adds_nothing(cls, own) and not _is_at_home(cls)


def _is_schema_mixin(cls: type) -> bool:
    return _is_instructors(cls) and cls.__name__ in ("ResponseSchema", "OpenAISchema")


def _is_instructors(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "instructor"


def _adds_nothing(cls: Any, own: Any) -> bool:
    if not issubclass(own, BaseModel):
        return False
    if not all(_is_derived(cls, own, hook) for hook in ("model_post_init", "__hash__")):
        return False
    if cls.__private_attributes__.keys() != own.__private_attributes__.keys():
        return False
    mine, theirs = cls.__pydantic_fields__, own.__pydantic_fields__
    return mine.keys() == theirs.keys() and all(
        mine[name].annotation == theirs[name].annotation for name in mine
    )


def _is_derived(cls: Any, own: Any, hook: str) -> bool:
    """Whether it is Pydantic that wrote the hook, around that of the base if there is one."""
    function: Any = cls.__dict__.get(hook)
    if function is None:
        return True
    namespace: Any = getattr(function, "__globals__", {})
    inner = getattr(function, "__wrapped__", None)
    by_pydantic = str(namespace.get("__name__")).startswith("pydantic.")
    return by_pydantic and inner in (None, getattr(own, hook))


def _is_at_home(cls: type) -> bool:
    """Whether its module has it under its name: a user of `@openai_schema` goes by that class."""
    home = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)
    return home is cls


# What `create_model` and `functools.wraps` put into a class; all else someone wrote there.
_MADE_ANEW = frozenset(
    {
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__module__", "__doc__", "__parameters__", "__type_params__", "__wrapped__"),
        *("__abstractmethods__", "__class_vars__", "__private_attributes__", "__signature__"),
        *("__hash__", "_abc_impl", "model_config", "model_post_init"),
    }
)


def named_classes(annotation: Any) -> list[type]:
    """Every class that the annotation names, in its models' fields as well."""
    found: dict[type, None] = {}
    seen: set[int] = set()
    kept: list[Any] = []  # an id says something only as long as its object lives
    pending: list[Any] = [annotation]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        kept.append(part)
        if _is_class(part) and part.__module__ not in _NATIVE_MODULES:
            found[part] = None
        pending.extend(_parts(part))
    return list(found)


def own_classes_in(schema: Any) -> list[type]:
    """Every class that a core schema builds: what only Pydantic could resolve is there too."""
    return [cls for cls in classes_in(schema) if cls.__module__ not in _NATIVE_MODULES]


def _is_class(part: Any) -> bool:
    return isinstance(part, type) and get_origin(part) is None


def _parts(part: Any) -> Iterator[Any]:
    yield from (*get_args(part), get_origin(part))
    if isinstance(part, Enum):  # an argument of Literal
        yield type(part)
    elif isinstance(part, TypeVar):
        yield from (part.__bound__, *part.__constraints__)
    elif _is_class(part) and part.__module__ not in _NATIVE_MODULES:
        yield from _field_types(part)
    elif not isinstance(part, type):
        yield getattr(part, "__value__", None)  # a type alias
        yield getattr(part, "__supertype__", None)  # a NewType


def _field_types(cls: type) -> Iterator[Any]:
    if issubclass(cls, BaseModel) and cls is not BaseModel:
        yield from (field.annotation for field in cls.__pydantic_fields__.values())
        metadata = cls.__pydantic_generic_metadata__
        yield from (metadata["origin"], *metadata["args"])
    try:
        yield from get_type_hints(cls, include_extras=True).values()
    except Exception:  # a name that only the class's author can resolve
        return
