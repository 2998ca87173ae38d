"""What instructor answers for a response model: its type, and whether it comes item by item."""

from __future__ import annotations

import collections.abc as abc
import sys
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from pydantic import RootModel

from ..annotations import name_of
from ..canonical import NoForm, canonical
from ..codecs import is_partial as is_partial_class
from ..codecs import own_class
from ..schema import fingerprint

__all__ = ["Kind", "described", "is_partial", "kind_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """How the answers to calls with one response model come.

    Attributes:
        form: *whole*: at once. *items*: one by one. *list*: one by one to instructor, which
            gives the list of them.
        type: Of the answer, or of an item.
        response_model: What to give instructor for it.
    """

    form: Literal["whole", "items", "list"]
    type: Any
    response_model: Any

    def returns(self, *, is_async: bool) -> Any:
        """Give the annotation of a function that answers so."""
        if self.form == "items":
            return (abc.AsyncIterator if is_async else abc.Iterator)[self.type]
        return list[self.type] if self.form == "list" else self.type  # type: ignore[name-defined]


def kind_of(response_model: Any, *, stream: bool, is_parallel: bool, is_async: bool) -> Kind | None:
    """Give how instructor answers; None for what can't be kept, such as a raw stream."""
    inner = _items_of(response_model)
    if _is_typed_dict(response_model):
        raise ValueError(
            "found a TypedDict, of which instructor makes another class for each answer; wanted a "
            "class that is there again for a hit: write it as a model of Pydantic's"
        )
    if stream:
        if inner is not None:
            return Kind("items", inner, response_model)
        return _partial(response_model, is_async) if is_partial(response_model) else None
    if is_parallel and response_model is not None:
        is_kept = inner is not None and not is_async  # async clients give a plain generator
        return Kind("items", inner, response_model) if is_kept else None
    if inner is not None:
        return Kind("whole", list[inner], response_model)  # type: ignore[valid-type]
    if is_partial(response_model):
        return Kind("whole", own_class(response_model), response_model)
    return Kind("whole", Any if response_model is None else response_model, response_model)


def described(response_model: Any) -> Any:
    """Give what counts of a response model in a key: itself, or else what describes it.

    ``Annotated[int, Field(gt=0)]`` holds an object that has no form of its own.
    """
    try:
        canonical(response_model)
    except NoForm:
        return name_of(response_model), fingerprint(response_model)
    return response_model


def _items_of(response_model: Any) -> Any:
    """The M of ``Iterable[M]``."""
    is_iterable = typing.get_origin(response_model) is abc.Iterable
    return typing.get_args(response_model)[0] if is_iterable else None


def _is_typed_dict(response_model: Any) -> bool:
    """Whether it is one, or a list of them; older versions of instructor give those as dicts."""
    parts = typing.get_args(response_model) if "instructor.v2" in sys.modules else ()
    return any(hasattr(each, "__required_keys__") for each in (response_model, *parts))


def is_partial(response_model: Any) -> TypeGuard[type[Any]]:
    """Whether it is instructor's ``Partial[M]``, a class of its own each time it is written."""
    return isinstance(response_model, type) and is_partial_class(response_model)


def _partial(response_model: Any, is_async: bool) -> Kind:
    """Its snapshots, kept as instances of M; newer versions gather them for sync callers."""
    if issubclass(own_class(response_model), RootModel):
        raise ValueError(
            "found a RootModel, of which instructor gives snapshots that are none; wanted a model "
            "with fields: put what it holds into a field of one, or ask for it whole, by create()"
        )
    is_gathered = hasattr(response_model, "_original_model") and not is_async
    return Kind("list" if is_gathered else "items", own_class(response_model), response_model)
