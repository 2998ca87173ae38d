"""Right key: the same call has one key everywhere, and no two calls share one."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
import threading
import unittest.mock
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NewType, TypeVar

import attrs
import golden
import pytest
from conftest import Colour
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, StrictInt
from typing_extensions import TypeAliasType

from instructor_cache import (
    Event,
    MemoryCache,
    UnkeyableArgument,
    UnkeyableArgumentWarning,
    instructor_cache,
)
from instructor_cache.canonical import NoForm, canonical
from instructor_cache.schema import fingerprint

TABLE = json.loads(Path(__file__).with_name("golden_keys.json").read_text())


class User(BaseModel):
    name: str
    friend: User | None = None


# -- values --------------------------------------------------------------------------------


def test_golden_keys_hold():
    """Every kind of argument has the key that it had when the table was written."""
    assert golden.keys() == TABLE


def test_golden_keys_differ():
    """No two of the table's calls share a key."""
    assert len(set(TABLE.values())) == len(TABLE) > 50


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_keys_are_the_same_in_every_process(seed: str):
    """Another process makes the same keys, whatever its hash seed, as a script and imported."""
    env = {**os.environ, "PYTHONHASHSEED": seed}
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "golden.py"], cwd=here, env=env, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == TABLE


scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    *(
        st.decimals(allow_nan=False),
        st.dates(),
        st.datetimes(),
        st.timedeltas(),
        st.uuids(),
        st.complex_numbers(),
    ),
)
hashables = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        st.sets(hashables, max_size=3),
        st.tuples(inner, inner),
    ),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are one argument: equal, of equal types, NaN equal to itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and str(a) == str(b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, dict):
        return same(set(a), set(b)) and all(
            any(same(k, m) and same(v, w) for m, w in b.items()) for k, v in a.items()
        )
    return str(a) == str(b)


@given(values, values)
def test_forms_are_equal_exactly_when_values_are(a: Any, b: Any):
    """Two values have one canonical form if and only if they are the same argument."""
    assert (canonical(a) == canonical(b)) == same(a, b)


@given(values)
def test_a_copy_has_the_same_form(value: Any):
    """An equal value built in another order has the same canonical form."""

    def rebuilt(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: rebuilt(v) for k, v in reversed(list(x.items()))}
        if isinstance(x, (list, tuple)):
            return type(x)(rebuilt(y) for y in x)
        if isinstance(x, (set, frozenset)):
            return type(x)(reversed(list(x)))
        return x

    assert canonical(rebuilt(value)) == canonical(value)


def test_look_alikes_differ():
    """Values that compare equal or print alike but are different arguments have their own forms."""
    alike: list[Any] = [1, 1.0, True, "1", b"1", "True", (1,), [1], {1}, frozenset({1}), "[1]"]
    alike += [0.0, -0.0, None, "None", "", b"", (), [], {}, set(), ("a", "b"), ("ab",), ("a,b",)]
    alike += [golden.Colour.RED, "red", golden.Level.LOW, golden.Prompt("1"), {"a": 1}, [("a", 1)]]
    alike += [User(name="a"), {"name": "a"}, golden.User(name="A"), int, "int", golden.Point(1, 2)]
    forms = [canonical(value) for value in alike]
    assert len(set(forms)) == len(alike)


def test_same_named_classes_of_two_places_differ():
    """Instances of two classes that share a short name are different arguments."""

    def local() -> type[BaseModel]:
        class User(BaseModel):
            name: str
            friend: None = None

        return User

    assert canonical(User(name="a")) != canonical(local()(name="a"))


def test_private_and_extra_parts_of_a_model_count():
    """Models that differ in a private attribute or an extra field are different arguments."""

    class Open(BaseModel, extra="allow"):
        _tenant: str = "one"

    plain, extra, private = Open(), Open(x=1), Open()
    private._tenant = "two"
    assert len({canonical(plain), canonical(extra), canonical(private)}) == 3


def test_a_model_class_counts_with_its_schema():
    """A model class given as an argument has another form once a field is added."""

    def local(**fields: Any) -> type[BaseModel]:
        return type("Answer", (BaseModel,), {"__annotations__": fields, "__module__": __name__})

    assert canonical(local(a=int)) == canonical(local(a=int))
    assert canonical(local(a=int)) != canonical(local(a=int, b=int))


def test_attrs_objects_have_a_form():
    """An attrs instance is written by class and attributes, slots or not."""

    @attrs.define
    class Slotted:
        a: int

    assert canonical(Slotted(1)) == canonical(Slotted(1)) != canonical(Slotted(2))


class Opaque:
    pass


@pytest.mark.parametrize(
    "value",
    [
        *(Opaque(), object(), lambda: 1, iter([1]), (x for x in "a"), threading.Lock()),
        *([Opaque()], {"a": Opaque()}, Opaque().__init__, type("Local", (), {})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_opaque_values_have_no_form(value: Any):
    """What no other process could recognise is refused, at any depth."""
    with pytest.raises(NoForm):
        canonical(value)


# -- calls ---------------------------------------------------------------------------------


@instructor_cache(MemoryCache())
def extract(text: str, model: str = "gpt", *rest: int, lang: str = "en", **options: Any) -> User:
    return User(name=text)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("a",), {}),
        ((), {"text": "a"}),
        (("a", "gpt"), {}),
        (("a",), {"lang": "en"}),
        ((), {"lang": "en", "model": "gpt", "text": "a"}),
    ],
)
def test_spellings_of_one_call_share_a_key(args: tuple[Any, ...], kwargs: dict[str, Any]):
    """By position, by keyword or with defaults spelled out: one call, one key."""
    assert extract.cache_key(*args, **kwargs) == extract.cache_key("a")


def test_different_calls_have_different_keys():
    """Anything that differs in a call, a ``*`` or ``**`` argument too, makes another key."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("a",), {}),
        (("b",), {}),
        (("a", "o1"), {}),
        (("a", "gpt", 1), {}),
        (("a", "gpt", 1, 2), {}),
        (("a",), {"lang": "de"}),
        (("a",), {"top": 1}),
        (("a",), {"top": "1"}),
        (("a",), {"rest": (1,)}),
        (("a",), {"options": {"top": 1}}),
    ]
    assert len({extract.cache_key(*args, **kwargs) for args, kwargs in calls}) == len(calls)


def test_parameters_of_every_kind_bind():
    """Positional-only, keyword-only and odd names bind as Python binds them."""

    @instructor_cache(MemoryCache())
    def odd(self: int, /, key: int, *, _default_0: int = 1, **func: int) -> User:
        return User(name="x")

    assert odd.cache_key(1, 2) == odd.cache_key(1, key=2, _default_0=1)
    assert odd.cache_key(1, 2) != odd.cache_key(1, 2, self=3)
    assert odd(1, 2, self=3, args=4).name == "x"


def test_prefix_function_schema_and_version_are_parts_of_the_key():
    """A key reads ``prefix:module.function:version~schema:digest``, with nothing left to forge."""

    def make(**options: Any) -> str:
        return instructor_cache(MemoryCache(), **options)(golden.extract.__wrapped__).cache_key(1)

    assert make(prefix="golden") == TABLE["one"]
    prefix, function, schema, digest = make(prefix="a:b*[c]", version="v:2").split(":")
    assert (prefix, function) == ("a%3Ab%2A%5Bc%5D", "golden.extract")
    assert schema.startswith("v%3A2~")
    assert len(digest) == 32
    assert make(version=1) == make(version="1") != make(version=2)


def test_methods_take_the_instance_as_an_argument():
    """Instances with equal `__cache_key__` share answers, others do not; classes go by name."""

    class Extractor:
        def __init__(self, model: str) -> None:
            self.model = model

        def __cache_key__(self) -> str:
            return self.model

        @instructor_cache(MemoryCache())
        def extract(self, text: str) -> User:
            return User(name=f"{self.model} {text}")

        @classmethod
        @instructor_cache(MemoryCache(), ignore=["cls"])
        def of_class(cls, text: str) -> User:
            return User(name=text)

        @instructor_cache(MemoryCache())
        @staticmethod
        def static(text: str) -> User:
            return User(name=text)

    a, b = Extractor("a"), Extractor("b")
    assert (a.extract("x").name, b.extract("x").name) == ("a x", "b x")
    assert Extractor.extract.cache_contains(Extractor("a"), text="x")
    assert Extractor.of_class("x") == Extractor.of_class("x")
    assert a.static("x") == Extractor.static("x")
    assert Extractor.static.cache_info().hits == 1


def test_ignored_parameters_do_not_count():
    """`ignore` leaves parameters out, those that come in by ``**`` too."""

    @instructor_cache(MemoryCache(), ignore=("client", "trace"))
    def f(client: Any, text: str, **options: Any) -> User:
        return User(name=text)

    assert f.cache_key(Opaque(), "a", trace=1) == f.cache_key(None, "a", trace=2)
    assert f.cache_key(None, "a", top=1) != f.cache_key(None, "a", top=2)


def test_an_unknown_ignored_name_is_told_at_decoration():
    """`ignore` with a name that the function does not take is a ValueError that lists them."""
    with pytest.raises(ValueError, match=r"'clinet'.*it takes: client, text"):

        @instructor_cache(MemoryCache(), ignore=("clinet",))
        def f(client: Any, text: str) -> User:
            return User(name=text)


def test_ignore_as_a_string_is_told():
    """A bare string as `ignore`, which would be read as letters, is a TypeError."""
    with pytest.raises(TypeError, match=r"ignore=\('client',\)"):
        instructor_cache(MemoryCache(), ignore="client")(golden.extract.__wrapped__)


def test_key_functions_replace_the_arguments():
    """`key` gets the call's arguments, `cache_key_fn` the pair of them; what they give decides."""

    @instructor_cache(MemoryCache(), key=lambda text, **_: text.lower())
    def one(text: str, **options: Any) -> User:
        return User(name=text)

    @instructor_cache(MemoryCache(), cache_key_fn=lambda call: call[0][0].lower())
    def two(text: str, **options: Any) -> User:
        return User(name=text)

    for f in (one, two):
        assert f("ADA", seed=Opaque()) == f("ada") == User(name="ADA")
        assert f("bob") == User(name="bob")
        assert f.cache_info()[:2] == (1, 2)


def test_both_key_functions_are_refused():
    """`key` and `cache_key_fn` together, or one that isn't callable, are told at decoration."""
    with pytest.raises(ValueError, match="give one"):
        instructor_cache(MemoryCache(), key=str, cache_key_fn=str)
    with pytest.raises(TypeError, match="must be a plain callable"):
        instructor_cache(MemoryCache(), key="text")


# -- what has no key -------------------------------------------------------------------------


async def test_an_unkeyable_call_goes_through(colour: Colour):
    """It is answered by the function each time, with one warning and an event for each call."""
    events: list[Event] = []
    calls: list[str] = []

    def body(client: Any, text: str) -> User:
        calls.append(text)
        return User(name=text)

    body.__annotations__ = {"return": User}
    f = instructor_cache(MemoryCache(), observer=events.append)(colour.function(body))
    with pytest.warns(UnkeyableArgumentWarning) as warned:
        for n in range(2000):
            assert (await colour.call(f, Opaque(), str(n % 2))).name == str(n % 2)
    assert len(calls) == 2000
    assert [event.kind for event in events] == ["unkeyable"] * 2000
    assert len(warned) == 1
    assert Path(warned[0].filename).parent == Path(__file__).parent
    for hint in ("'client'", "Opaque", "ignore=('client',)", "key=", "__cache_key__"):
        assert hint in str(warned[0].message)


async def test_an_unkeyable_call_raises_if_asked(colour: Colour):
    """With `fail_open=False`, and always from `cache_key`, it is an UnkeyableArgument."""
    f = instructor_cache(MemoryCache(), fail_open=False)(colour.function(golden_body))
    with pytest.raises(UnkeyableArgument, match="'value'") as caught:
        await colour.call(f, Opaque())
    assert isinstance(caught.value, TypeError)
    assert caught.value.parameter == "value"
    with pytest.raises(UnkeyableArgument):
        f.cache_key(Opaque())


def golden_body(value: Any) -> User:
    return User(name="x")


def test_a_container_in_itself_has_no_key():
    """A cyclic list or dict is refused with a clear reason, not a crash."""
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(UnkeyableArgument, match="contains itself"):
        extract.cache_key("a", options={"a": cycle})


def test_arguments_are_read_at_the_call():
    """An object changed between two calls makes two different calls."""
    words = ["a"]
    f = instructor_cache(MemoryCache())(golden_body)
    first = f.cache_key(words)
    words.append("b")
    assert f.cache_key(words) != first


def test_an_argument_whose_own_code_fails_has_no_key():
    """A `__cache_key__` or key function that raises is named; the call goes through."""

    class Bad:
        def __cache_key__(self) -> str:
            raise RuntimeError("boom")

    f = instructor_cache(MemoryCache())(golden_body)
    with pytest.warns(UnkeyableArgumentWarning, match="reading it raised RuntimeError"):
        assert f(Bad()).name == "x"
    g = instructor_cache(MemoryCache(), key=lambda value: 1 / 0)(golden_body)
    with pytest.warns(UnkeyableArgumentWarning, match="ZeroDivisionError"):
        assert g(1).name == "x"


async def test_wrong_arguments_raise_the_functions_own_error(colour: Colour):
    """A call that the function does not take raises what it raises by itself; nothing is kept."""
    memory = MemoryCache()
    f = instructor_cache(memory)(colour.function(golden_body))
    with pytest.raises(TypeError, match=r"golden_body\(\)|twin\(\)|golden_body"):
        await colour.call(f, 1, 2)
    assert len(memory) == 0
    with pytest.raises(TypeError, match=r"golden_body\(\) missing 1 required positional argument"):
        f.cache_key()


def test_two_tenants_never_mix():
    """Two prefixes in one backend are two namespaces."""
    memory = MemoryCache()
    one = instructor_cache(memory, prefix="one")(golden_body)
    two = instructor_cache(memory, prefix="two")(golden_body)
    one(1)
    assert not two.cache_contains(1)
    two.cache_clear()
    assert one.cache_contains(1)


def test_sync_and_async_functions_of_one_name_agree_on_keys():
    """The key does not depend on the colour of the function."""

    async def twin(value: Any) -> User:
        return User(name="x")

    twin.__qualname__ = golden_body.__qualname__
    async_f = instructor_cache(MemoryCache())(twin)
    assert async_f.cache_key(1) == instructor_cache(MemoryCache())(golden_body).cache_key(1)
    assert asyncio.run(async_f(1)).name == "x"


SCRIPT = """
import multiprocessing, sys
from pydantic import BaseModel
from instructor_cache import MemoryCache, instructor_cache

class User(BaseModel):
    name: str

@instructor_cache(MemoryCache())
def extract(text: str) -> User:
    return User(name=text)

def tell(queue):
    queue.put(extract.cache_key("a"))

if __name__ == "__main__":
    keys = {extract.cache_key("a")}
    for method in ("spawn", "forkserver", "fork"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=tell, args=(queue,))
        process.start()
        keys.add(queue.get(timeout=60))
        process.join()
    print(*keys)
"""


def test_worker_processes_and_importers_agree(tmp_path: Path):
    """A script, its spawned and forked workers, ``python -m`` and an import make one key."""
    package = tmp_path / "app"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "job.py").write_text(SCRIPT)
    (tmp_path / "job.py").write_text(SCRIPT)

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    by_import = "import {0}; print({0}.extract.cache_key('a'))"
    commands = [
        *(("job.py",), ("-c", by_import.format("job"))),
        *(("-m", "app.job"), ("-c", by_import.format("app.job"))),
    ]
    with ThreadPoolExecutor() as pool:
        script, imported, module, imported_module = pool.map(lambda each: run(*each), commands)
    assert script == imported
    assert module == imported_module


def test_functions_of_one_name_do_not_mix():
    """Lambdas, and closures of one factory that captured different constants, have own answers."""
    memory = MemoryCache()
    one = instructor_cache(memory, returns=int)(lambda x: x + 1)
    two = instructor_cache(memory, returns=int)(lambda x: x + 2)
    assert (one(1), two(1), one(1)) == (2, 3, 2)

    def make(model: str, calls: list[str]) -> Any:
        @instructor_cache(memory)
        def extract(text: str) -> User:
            calls.append(text)
            return User(name=model)

        return extract

    calls: list[str] = []
    assert make("a", calls)("x").name == "a"
    assert make("b", calls)("x").name == "b"
    assert make("a", [])("x").name == "a"
    assert calls == ["x", "x"]


def test_what_a_subclass_adds_counts():
    """Attributes beyond the declared fields make another argument; a cached property does not."""

    @dataclasses.dataclass
    class Base:
        x: int

        @functools.cached_property
        def double(self) -> int:
            return 2 * self.x

    class Sub(Base):
        def __init__(self, x: int, y: int) -> None:
            super().__init__(x)
            self.y = y

    assert canonical(Sub(1, 2)) == canonical(Sub(1, 2)) != canonical(Sub(1, 3))
    asked, fresh = Base(1), Base(1)
    assert asked.double == 2
    assert canonical(asked) == canonical(fresh)
    assert canonical(defaultdict(int)) != canonical(defaultdict(list)) != canonical({})
    bound, other = TypeVar("T", bound=int), TypeVar("T", bound=str)
    assert canonical(bound) != canonical(other)
    alias = [TypeAliasType("Answer", inner) for inner in (int, str)]
    assert canonical(alias[0]) != canonical(alias[1])


def test_what_moved_between_pythons_has_one_key():
    """Python 3.13 has another module for paths, and another kind of Annotated."""
    assert canonical(Path) == b"N12:pathlib.Path"
    strict = b"N12:builtins.intO38:21:pydantic.types.Strictd10:s6:strictT"
    assert canonical(StrictInt) == b"G82:N16:typing.Annotatedt58:" + strict
    assert fingerprint(Path) == "3383a425e0628597"


def test_mocks_are_opaque():
    """A mock, which answers yes to every question, is refused at once and not called."""
    with pytest.raises(NoForm, match="MagicMock"):
        canonical(unittest.mock.MagicMock())


def test_a_hidden_signature_is_told():
    """A decorator that changes the arguments but shows the old signature is named, once."""
    events: list[Event] = []

    def with_client(func: Any) -> Any:
        @functools.wraps(func)
        def wrapper(text: str) -> User:
            return func("client", text)

        return wrapper

    @instructor_cache(MemoryCache(), observer=events.append)
    @with_client
    def extract(client: str, text: str) -> User:
        return User(name=text)

    with pytest.warns(UnkeyableArgumentWarning, match="hides its signature"):
        assert extract("ada").name == "ada"
    assert [event.kind for event in events] == ["unkeyable"]


def test_functions_of_one_name_are_told_apart_by_all_they_captured():
    """Tuples, a wrapper's own constants, and lambdas that share a line count as well."""
    memory = MemoryCache()

    def times(factor: int, pair: tuple[int, str]) -> Any:
        def multiply(func: Any) -> Any:
            @functools.wraps(func)
            def wrapper(n: int) -> int:
                return factor * func(n)

            return wrapper

        @instructor_cache(memory, returns=int)
        @multiply
        def extract(n: int) -> int:
            return n + pair[0]

        return extract

    assert [times(k, (0, "a"))(1) for k in (1, 2, 1)] == [1, 2, 1]
    assert [times(1, (n, "a"))(1) for n in (1, 2)] == [2, 3]
    one, two = (instructor_cache(memory, returns=int)(f) for f in (lambda: 1, lambda: 2))
    assert (one(), two()) == (1, 2)


def test_a_class_that_answers_everything_is_read_as_what_it_is():
    """A dict with attribute access is a dict; a NewType counts with what it stands for."""

    class AttrDict(dict[str, int]):
        __getattr__ = dict.get

    assert canonical(AttrDict(x=1)) != canonical(AttrDict(x=2))
    assert canonical(NewType("Id", int)) != canonical(NewType("Id", str))
    special = type("Special", (defaultdict,), {})
    one, two = special(list), special(list)
    two.mark = 3
    assert canonical(one) != canonical(two)


def test_a_generic_model_has_one_key_whoever_names_it_first(tmp_path: Path) -> None:
    """The key of a ``Box[int]`` is the same if another module asked for that class before."""
    (tmp_path / "box.py").write_text(
        "from typing import Generic, TypeVar\n"
        "from pydantic import BaseModel\n"
        "T = TypeVar('T')\n"
        "class Box(BaseModel, Generic[T]):\n"
        "    content: T\n"
    )
    (tmp_path / "other.py").write_text("from box import Box\nBoxed = Box[int]\n")
    program = (
        "from box import Box\n"
        "from instructor_cache import MemoryCache, instructor_cache\n"
        "@instructor_cache(MemoryCache())\n"
        "def f(box: Box[int]) -> Box[int]: ...\n"
        "print(f.cache_key(Box[int](content=1)))\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    keys = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for code in (program, f"import other\n{program}")
    ]
    assert keys[0] == keys[1] and "f:" in keys[0]


def test_an_argument_is_named_by_its_own_type_too():
    """Where a part of an argument has no form, the error tells the part and the whole."""

    @dataclasses.dataclass
    class Agent:
        lock: Any

    @instructor_cache(MemoryCache())
    def f(agent: Any) -> User: ...

    with pytest.raises(UnkeyableArgument, match=r"type .*lock \(inside a value of type .*Agent\)"):
        f.cache_key(Agent(threading.Lock()))
    for whole in (threading.Lock(), lambda: None):
        with pytest.raises(UnkeyableArgument) as told:
            f.cache_key(whole)
        assert "inside" not in str(told.value)
