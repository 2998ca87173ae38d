"""A language model of sorts on localhost: fills JSON schemas with what rules find in a text.

It speaks enough of OpenAI's chat completions for `instructor` to work with it unchanged, waits as
long as a model would, and counts its calls, so that the examples run without a key, a network or
a bill::

    with LocalLLM(delay=0.5) as llm:
        client = instructor.from_openai(OpenAI(base_url=llm.url, api_key="none"))

or, for other programs, ``python examples/local_llm.py --port 8000 --delay 0.5``.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

Schema = dict[str, Any]

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = re.compile(rf"(?:(?:\d{{1,2}} )?{_MONTH} )?\b(?:1\d|20)\d\d\b")
_WORD = r"[A-Z][\w'-]*"
_NAME = rf"{_WORD}(?: (?:(?:d[aeu]|of|the|v[ao]n) )*{_WORD})*"
_NEAR = "along|at|from|in|near|of|off|on|over|through|to|under|up"
_PLACE = re.compile(rf"\b(?i:{_NEAR}) (?:the )?(?!{_MONTH})({_NAME})")
_PERSON = re.compile(rf"\b(?!Before |From |In |The )({_WORD}(?: (?:(?:d[aeu]|v[ao]n) )*{_WORD})+)")
_AGED = re.compile(rf"({_WORD}) is (\d+)(?: years old)?")
_SENTENCE = re.compile(r"[^.]+\.?")


@dataclass(frozen=True)
class Reading:
    """What the rules understand of a text."""

    text: str

    @property
    def people(self) -> list[str]:
        """Names before an age, else capitalised words in a row that name no place."""
        aged = [name for name, _ in _AGED.findall(self.text)]
        return aged or [name for name in _PERSON.findall(self.text) if name not in self.places]

    @property
    def places(self) -> list[str]:
        """Capitalised words after a preposition."""
        return _PLACE.findall(self.text)

    @property
    def dates(self) -> list[str]:
        """Years, with the day and month before them."""
        return _DATE.findall(self.text)

    def words_for(self, field: str) -> list[str]:
        """Give what answers to a field of this name; the first sentence if it is no kind known."""
        for kind, names in _KINDS.items():
            if field in names:
                return list(dict.fromkeys(getattr(self, kind)))
        return _SENTENCE.findall(self.text)[:1]

    def number_for(self, field: str) -> int | None:
        """Give the year, the age or the first number of the text."""
        pattern = {"year": r"\b((?:1\d|20)\d\d)\b", "age": r" is (\d+)"}.get(field, r"(\d+)")
        found = re.search(pattern, self.text)
        return int(found[1]) if found else None

    def sentences(self) -> list[Reading]:
        """Give the sentences that tell of somebody, each as a reading of its own."""
        readings = [Reading(sentence) for sentence in _SENTENCE.findall(self.text)]
        return [reading for reading in readings if reading.people]


_KINDS = {
    "people": ("name", "people", "person", "who"),
    "places": ("city", "country", "place", "places", "where"),
    "dates": ("date", "dates", "when"),
}


def fill(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    """Give a value that fits *schema*, read from the text; None where it says nothing."""
    schema = _resolved(schema, root)
    if "enum" in schema:
        text = reading.text.lower()
        return next((each for each in schema["enum"] if str(each) in text), schema["enum"][0])
    return _FILLERS.get(schema.get("type", ""), _string)(schema, reading, field, root)


def _resolved(schema: Schema, root: Schema) -> Schema:
    if "$ref" in schema:
        return _resolved(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return _resolved(next(s for s in schema["anyOf"] if s.get("type") != "null"), root)
    return schema


def _object(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    fields = schema.get("properties", {})
    return {name: fill(inner, reading, name, root) for name, inner in fields.items()}


def _array(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    items = _resolved(schema.get("items", {}), root)
    if items.get("type") == "object":
        return [fill(items, each, field, root) for each in reading.sentences()]
    return reading.words_for(field)


def _integer(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    return reading.number_for(field)


def _boolean(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    return field.replace("_", " ") in reading.text.lower()


def _string(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    return next(iter(reading.words_for(field)), None)


_FILLERS = {
    "object": _object,
    "array": _array,
    "integer": _integer,
    "number": _integer,
    "boolean": _boolean,
}


def complete(request: dict[str, Any]) -> dict[str, Any]:
    """Give the chat completion that answers *request*, as OpenAI's API would shape it."""
    messages = request["messages"]
    text = " ".join(str(m["content"]) for m in messages if m["role"] == "user")
    name, schema = _wanted(request)
    answer = json.dumps(fill(schema, Reading(" ".join(text.split())), "", schema))
    usage = {"prompt_tokens": _tokens(request), "completion_tokens": _tokens(answer)}
    return {
        "id": "chatcmpl-local",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": _message(name, answer)}],
        "usage": {**usage, "total_tokens": sum(usage.values())},
    }


def _wanted(request: dict[str, Any]) -> tuple[str | None, Schema]:
    """The name of the tool to call, if any, and the schema to fill."""
    if tools := request.get("tools"):
        return tools[0]["function"]["name"], tools[0]["function"]["parameters"]
    wanted: Schema = request.get("response_format", {}).get("json_schema", {})
    return None, wanted.get("schema", {})


def _message(tool: str | None, answer: str) -> dict[str, Any]:
    if tool is None:
        return {"role": "assistant", "content": answer}
    call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": answer}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _tokens(spoken: Any) -> int:
    return len(json.dumps(spoken)) // 4  # a token is about four characters of English


class LocalLLM:
    """A server on localhost that takes about *delay* seconds over an answer; a context manager.

    Attributes:
        calls: How many completions it has given.
        url: What an OpenAI client takes as its ``base_url``.
    """

    def __init__(self, delay: float = 0.5, port: int = 0) -> None:
        self.calls = 0
        self._counting = Lock()
        self._delay = delay
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Give the completion, after thinking about it."""
        with self._counting:
            self.calls += 1
        time.sleep(self._delay * random.uniform(0.8, 1.2))
        return complete(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"llm": self})


class _Handler(BaseHTTPRequestHandler):
    llm: LocalLLM

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(self.llm.answer(request)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-request-id", f"req_{self.llm.calls}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the examples print what matters."""


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--delay", type=float, default=0.5, help="seconds to an answer")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start us deaf to it
    with LocalLLM(options.delay, options.port) as llm, suppress(KeyboardInterrupt):
        print(f"base_url: {llm.url}", flush=True)
        Event().wait()
    print(f"calls answered: {llm.calls}")


if __name__ == "__main__":
    main()
