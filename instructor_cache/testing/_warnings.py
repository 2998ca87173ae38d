"""What the warnings say of a cassette that can't play all that its test calls."""

from __future__ import annotations

from pathlib import Path

from ._page import function_of


def refusal(path: Path, key: str, reason: str) -> str:
    """Of an answer that holds a secret."""
    return (
        f"{path.name}: an answer of {function_of(key)} was not recorded, because it holds "
        f"{reason}, so the test can't be played; have the function answer without it, or give the "
        f"call another answer in the test, with cache_set"
    )


def change(path: Path, keys: set[str]) -> str:
    """Of calls that have another answer now."""
    told = ", ".join(sorted(map(function_of, keys)))
    return (
        f"{path.name}: found calls that were made again and answered otherwise ({told}), of which "
        f"the last answer alone is played; make each once, or tell them apart by an argument"
    )


def loss(path: Path, lost: dict[str, str]) -> str:
    """Of calls whose answers are not kept, each with the reason."""
    told = "; ".join(sorted({f"{function_of(key)} {reason}" for key, reason in lost.items()}))
    return (
        f"{path.name}: found calls that can't be recorded ({told}), so the test can't be played; "
        f"test these without the cassette, or give them answers in the test, with cache_set"
    )
