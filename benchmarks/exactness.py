"""How many awkward results come back as they were: ours, the published recipe, instructor's own.

    python benchmarks/exactness.py

Every shape of the tests' corpus is stored and read back three ways. A shape counts by the worst
of its values: silently wrong, raised, refused (not stored, and said so), or exact.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, TypeAdapter

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from corpus import SHAPES, Shape  # noqa: E402
from sameness import same  # noqa: E402

from instructor_cache.codecs import codec_for  # noqa: E402
from instructor_cache.errors import Unstorable  # noqa: E402

OUTCOMES = ("exact", "refused", "silently wrong", "raised")
WORST_FIRST = ("silently wrong", "raised", "refused", "exact")

Way = Callable[[Any, Any], Any]


def ours(annotation: Any, value: Any) -> Any:
    codec = codec_for(annotation)
    return codec.decode(codec.encode(value))


def published_recipe(annotation: Any, value: Any) -> Any:
    """`model_dump_json` and `model_validate_json`; for what is no model, TypeAdapter's."""
    if isinstance(value, BaseModel):
        return annotation.model_validate_json(value.model_dump_json())
    adapter = TypeAdapter[Any](annotation)
    return adapter.validate_json(adapter.dump_json(value))


def instructors_own() -> Way:
    from instructor.cache import AutoCache, load_cached_response, store_cached_response

    def store_and_load(annotation: Any, value: Any) -> Any:
        cache = AutoCache()
        store_cached_response(cache, "key", value)
        return load_cached_response(cache, "key", annotation)

    return store_and_load


def outcome(way: Way, shape: Shape) -> str:
    found = {_outcome(way, shape.annotation, value) for value in shape.values}
    return next(one for one in WORST_FIRST if one in found)


def _outcome(way: Way, annotation: Any, value: Any) -> str:
    try:
        return "exact" if same(way(annotation, value), value) else "silently wrong"
    except Unstorable:
        return "refused"
    except Exception:
        return "raised"


def ways() -> Iterator[tuple[str, Way]]:
    yield "instructor_cache", ours
    yield "published recipe", published_recipe
    try:
        yield "instructor's cache", instructors_own()
    except ImportError:
        print("(instructor is not installed: its row is left out)")


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"pydantic {pydantic.VERSION}, {len(SHAPES)} shapes")
    print(f"{'':20}" + "".join(f"{name:>16}" for name in OUTCOMES))
    for name, way in ways():
        counts = Counter(outcome(way, shape) for shape in SHAPES)
        print(f"{name:20}" + "".join(f"{counts[one]:>16}" for one in OUTCOMES))
    refused = [shape.name for shape in SHAPES if outcome(ours, shape) == "refused"]
    print("refused by instructor_cache:", ", ".join(refused))


if __name__ == "__main__":
    main()
