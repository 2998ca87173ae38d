"""The name by which a class or a function is known in every process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# Where some Pythons alone have what all others have elsewhere: keys are the same in all.
_MOVED = {"pathlib._local": "pathlib"}


def identity(thing: Any) -> str:
    """Give the dotted name of a class or function.

    The main script goes by its file's stem (or by its module name under ``python -m``), so that
    running a module and importing it agree.
    """
    return f"{module_name(thing)}.{thing.__qualname__}"


def module_name(thing: Any) -> str:
    """Give the name of the module where a class or function was defined.

    For ``Box[int]`` that is the module of ``Box``: Pydantic names the one that asked for it first.
    """
    thing = generic_parts(thing)[0] or thing
    module: str = getattr(thing, "__module__", None) or "builtins"
    module = _MOVED.get(module, module)
    return _main_name(module) if module in ("__main__", "__mp_main__") else module


def generic_parts(cls: Any) -> tuple[type | None, tuple[Any, ...]]:
    """For the model ``Box[int]``, give ``Box`` and ``(int,)``; for all else, None and nothing."""
    metadata: Any = getattr(cls, "__pydantic_generic_metadata__", None)
    return (metadata["origin"], metadata["args"]) if metadata else (None, ())


def _main_name(module: str) -> str:
    # A spawned process runs the script as __mp_main__, while __main__ is still multiprocessing's.
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in ("__main__", "__mp_main__"):
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"
