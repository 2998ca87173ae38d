"""Another process that uses the same Redis: a module for the tests, and the program it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

import redis
from pydantic import BaseModel
from typing_extensions import Self

from instructor_cache import RedisCache, instructor_cache


class User(BaseModel):
    name: str


def extract(text: str) -> User:
    return User(name=f"made of {text}")


class OtherProcess:
    """A real second process; every order is carried out before `do` returns."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, __file__, url]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, order: str, *args: Any) -> float:
        """Carry out *order*; give the moment, by `time.time`, just before it was carried out."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([order, *args]) + "\n")
        stdin.flush()
        return float(stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def main(url: str) -> None:
    cache = RedisCache(url, timeout=2)
    client: Any = None if "+" in url else redis.Redis.from_url(url)  # for orders to one server
    functions: dict[str, Any] = {}

    def function(prefix: str) -> Any:
        if prefix not in functions:
            functions[prefix] = instructor_cache(cache, prefix=prefix)(extract)
        return functions[prefix]

    def expire(key: str) -> None:
        client.pexpire(key, 1)
        while client.exists(key):
            pass

    orders: dict[str, Any] = {
        "set": lambda prefix, text, name: function(prefix).cache_set(User(name=name), text),
        "invalidate": lambda prefix, text: function(prefix).cache_invalidate(text),
        "clear": lambda prefix: function(prefix).cache_clear(),
        "expire": lambda prefix, text: expire(function(prefix).cache_key(text)),
        "end": cache.invalidate_tags,
        "raw": lambda *args: client.execute_command(*args),
    }
    for line in sys.stdin:
        order, *args = json.loads(line)
        now = time.time()
        orders[order](*args)
        print(now, flush=True)


if __name__ == "__main__":
    import other  # whose functions and classes have the same names here and there

    other.main(sys.argv[1])
