"""The shape of the package: imports point one way, README blocks run, types are what they say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from local_llm import LocalLLM  # noqa: E402

PACKAGE = ROOT / "instructor_cache"

# Each module may import modules of lower levels only.
LEVELS = [
    {"_parts"},
    {"_raws", "_endings", "_heard"},
    {
        "_reserved",
        "_miss",
        "_binder",
        "lifetimes",
        "errors",
        "conditions",
        "_memo",
        "protocols",
        "identity",
        "_frames",
        "_bridge",
        "_fork",
    },
    {"_names", "_shortened"},
    {"_members", "_masks"},
    {"_hidden"},
    {"_workers", "_behind", "_discreet", "_missed", "_waits", "_tagged", "_progress"},
    {"_forgotten", "_pen", "_stand_in", "_sources"},
    {"_modes"},
    {"_breaker"},
    {"_health"},
    {"events", "entry", "policy", "annotations", "_flights", "canonical", "_deadlines", "_sweeper"},
    {"_coherence", "description", "_sketch"},
    {"schema", "_difference"},
    {"backends._taggable"},
    {
        "metrics",
        "backends._order",
        "backends._connection",
        "backends._lockfile",
        "backends._pool",
    },
    {"backends.memory", "backends._room", "backends._salvage"},
    {"backends._file"},
    {"backends._redis_url", "backends.redis._channel", "backends.redis._window"},
    {
        "backends.redis._settings",
        "backends.redis._commands",
        "backends.redis._mget",
        "backends.redis._slots",
    },
    {"backends.redis._link"},
    {"backends.redis._links"},
    {"backends.redis._batch", "backends.redis._routes"},
    {"backends.redis._loop"},
    {"backends.redis._masters"},
    {"backends.redis._ear"},
    {"backends.redis._tracking"},
    {"backends.redis._nodes", "backends.redis._sentinel", "backends.redis._ready"},
    {"backends.redis._cluster"},
    {"backends.redis._sync", "backends.redis._async", "backends.redis._deployment"},
    {"codecs._kinds", "codecs._state", "codecs._reach"},
    {"codecs._strip", "codecs._inside"},
    {"codecs._stream"},
    {"codecs._atoms", "codecs._compare", "codecs._plain", "codecs._shape"},
    {"codecs._objects", "codecs._public", "codecs._raw", "codecs._fresh"},
    {"codecs._tagged", "codecs._attached", "codecs._lint"},
    {"codecs._codec"},
    {"codecs"},
    {"backends.redis._cache"},
    {"backends._sqlite", "backends.redis", "backends.diskcache", "returns", "source"},
    {"keys"},
    {"backends._writers"},
    {"backends.disk", "tags"},
    {"backends"},
    {"ports"},
    {"tiers", "_guard", "_listing"},
    {"_shelf", "_place", "_leftovers"},
    {"_stack", "_mover", "_nearest"},
    {"_keeper", "_lock", "_marks"},
    {"_maker"},
    {"_engine", "_live"},
    {"_lane", "_live_async", "_offline", "_open_streams"},
    {"_streams"},
    {"cached", "_control", "_transfer"},
    {"_calls", "_many"},
    {"_faces"},
    {"_wiring"},
    {"decorator", "testing._faults"},
    {"testing.contract", "testing.faulty", "testing._texts", "testing._environment"},
    {"testing._leaks", "testing._hand"},
    {"testing._blocks", "testing._sketches"},
    {"testing._page"},
    {"testing._tape", "testing._file", "testing._warnings"},
    {"testing.cassette"},
    {"presets", "testing"},
    {"integrations._answers", "integrations._begun", "integrations._sdk"},
    {
        "integrations._globals",
        "integrations._headers",
        "integrations._litellm",
        "integrations._transports",
    },
    {"integrations._passed"},
    {"integrations._captured", "integrations._frozen"},
    {"integrations._account"},
    {"integrations._hooks"},
    {"integrations._request", "integrations._native"},
    {"integrations._functions"},
    {"integrations._client"},
    {"integrations._given"},
    {"integrations.instructor"},
    {"integrations"},
    {""},
]


def modules() -> dict[str, Path]:
    """Every module of the package by its name inside it."""
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class _Imported(ast.NodeTransformer):
    """Leaves out what only type checkers import."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


def imports(name: str, path: Path) -> set[str]:
    """The modules of the package that a module imports, when it is imported or later."""
    is_package = path.name == "__init__.py"
    package = name.split(".") if is_package else name.split(".")[:-1]
    package = [part for part in package if part]
    found: set[str] = set()
    for node in ast.walk(_Imported().visit(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            targets = [".".join([*base, *(node.module or "").split(".")]).strip(".")]
            if node.module is None:
                targets = [".".join([*base, alias.name]) for alias in node.names]
            found.update(targets)
    return found - {name}


def level(name: str) -> int:
    private = name.split(".")[0]
    for n, names in enumerate(LEVELS):
        if name in names or private in names:
            return n
    raise AssertionError(f"{name} has no level: give it one in LEVELS")


# Imported late on purpose: the form of a model class is the fingerprint of its schema; and a cache
# as a whole can be told what its functions are told, by the same stack.
LATE = {
    ("canonical", "schema"),
    ("tiers", "_control"),
    ("backends._taggable", "_control"),
    ("backends._taggable", "integrations.instructor"),
}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_one_way(name: str):
    """No module imports one of its own level or above."""
    for target in imports(name, modules()[name]):
        if (name, target) in LATE:
            continue
        assert level(target) < level(name), f"{name or '__init__'} imports {target}"


def test_import_is_light():
    """Importing the package brings neither redis, asyncio's relatives of it, nor diskcache."""
    code = (
        "import sys, instructor_cache; "
        "print([m for m in ('redis', 'diskcache', 'instructor', 'openai', 'sqlite3') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def blocks() -> list[tuple[str, str]]:
    """The README's Python blocks and the output that each says it prints."""
    text = (ROOT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.S)


def test_readme_blocks_run(tmp_path: Path, redis_url: str):
    """Every block runs after the ones before it, and prints what the README says."""
    assert len(blocks()) >= 5
    script, marks = [], []
    for n, (code, output) in enumerate(blocks()):
        code = code.replace("redis://localhost:6379/0", redis_url)
        script += [f"print('== {n}')", code]
        marks.append(output)
    (tmp_path / "app.py").write_text("\n".join(script))
    command = [sys.executable, "-W", "error", "app.py"]
    with LocalLLM(delay=0) as llm:  # which stands in for OpenAI
        environment = {**os.environ, "OPENAI_BASE_URL": llm.url, "OPENAI_API_KEY": "none"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    printed = re.split(r"^== \d+\n", done.stdout, flags=re.M)[1:]
    assert printed == marks


@pytest.mark.slow
def test_readme_has_the_table_of_methods():
    """What `make methods` prints stands in the README."""
    command = [sys.executable, "benchmarks/methods.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    title, table = done.stdout.strip().split("\n\n", 1)
    if "instructor 1.17" not in title:
        pytest.skip("the README speaks of instructor 1.17")
    assert table in (ROOT / "README.md").read_text()


CHECKERS = {"mypy": ["--strict"], "pyright": ["--pythonpath", sys.executable]}


@pytest.fixture(scope="module")
def checkers() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """What each type checker says of `typing_api.py`; they run at the same time."""
    with ThreadPoolExecutor(len(CHECKERS)) as pool:
        yield {checker: pool.submit(_said_by, checker) for checker in CHECKERS}


def _said_by(checker: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", checker, *CHECKERS[checker], "tests/typing_api.py"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("checker", CHECKERS)
def test_types_are_what_users_see(
    checkers: dict[str, Future[subprocess.CompletedProcess[str]]], checker: str
):
    """`typing_api.py` passes both checkers: right uses are accepted, wrong ones refused."""
    begun = checkers.pop(checker, None)  # by a first try, after which it runs again
    done = begun.result() if begun else _said_by(checker)
    assert done.returncode == 0, done.stdout + done.stderr
