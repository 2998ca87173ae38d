"""What the examples share: a client of a model, a count of its calls, the address of Redis.

With ``OPENAI_API_KEY`` set the clients talk to OpenAI, else to a `LocalLLM` of their own.
"""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import Any

import instructor
import redis
from local_llm import LocalLLM
from openai import AsyncOpenAI, OpenAI

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")


def connect() -> instructor.Instructor:
    """Give an instructor client whose calls `paid_calls` counts."""
    return _counted(instructor.from_openai(OpenAI(**_server())))


def connect_async() -> instructor.AsyncInstructor:
    """Give the same for coroutines."""
    return _counted(instructor.from_openai(AsyncOpenAI(**_server())))


def paid_calls() -> int:
    """Give how many answers the model has given so far, over HTTP."""
    return len(_answers)


def redis_answers() -> bool:
    """Tell whether Redis can be reached, and print it if not."""
    try:
        with redis.Redis.from_url(REDIS_URL, socket_timeout=0.5) as client:
            return bool(client.ping())
    except redis.RedisError:
        print("Redis can't be reached; the answers come all the same:")
        return False


_answers: list[Any] = []


def _counted(client: Any) -> Any:
    client.on("completion:response", _answers.append)
    return client


@cache
def _server() -> dict[str, str]:
    """What an OpenAI client needs to know; nothing if it finds a key in the environment."""
    if "OPENAI_API_KEY" in os.environ:
        return {}
    llm = LocalLLM(delay=0.05)
    llm.__enter__()
    atexit.register(llm.__exit__)
    return {"base_url": llm.url, "api_key": "none"}
