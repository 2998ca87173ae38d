"""Each recipe for another client runs with the real package, and says what it promises.

A package that is not installed is no failure of the quick suite; `make test-clients` names, in
INSTRUCTOR_CACHE_TEST_CLIENTS, those that must be.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from programs import Runner

JASON = "UserDetail(name='Jason', age=25), "
MIGUEL = "UserDetail(name='Miguel', age=41), 3 paid of 6 calls"
SARAH = "UserDetail(name='Sarah', age=30) for "

# By example: the package that it is about, and what it must print beside ending well.
RECIPES: dict[str, tuple[str, list[str]]] = {
    "anthropic_": (
        "anthropic",
        [f"{JASON}1 paid of 2 calls", f"{SARAH}39 tokens, 2 paid of 4 calls"],
    ),
    "langchain_": (
        "langchain_openai",
        [f"{JASON}1 paid of 2 calls", "41), 2 paid of 4 calls", SARAH, "3 paid of 6 calls"],
    ),
    "litellm_": (
        "litellm",
        [f"{JASON}1 paid of 2 calls", SARAH, "2 paid of 4 calls", "3 paid, as another model"],
    ),
    "openai_parse": (
        "openai",
        [f"{JASON}1 paid of 2 calls", SARAH, "2 paid of 4 calls"],
    ),
    "pydantic_ai_": (
        "pydantic_ai",
        [SARAH, "1 paid of 2 calls", f"{JASON}2 paid of 4 calls", MIGUEL],
    ),
}
REQUIRED = os.environ.get("INSTRUCTOR_CACHE_TEST_CLIENTS", "").split()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_keeps_its_promise(name: str, tmp_path: Path) -> None:
    """A recipe asks once for each two equal calls, sync and async, and complains of nothing."""
    package, says = RECIPES[name]
    if package not in REQUIRED and find_spec(package) is None:
        pytest.skip(f"{package} is not installed here; `make test-clients` installs it")
    out, err = Runner(tmp_path).run(name)
    assert [line for line in says if line not in out] == []
    assert err == ""


def test_required_packages_have_recipes() -> None:
    """What `make test-clients` asks for by name is what the recipes are about."""
    assert set(REQUIRED) <= {package for package, _ in RECIPES.values()}
