"""A server on localhost that speaks OpenAI's chat completions and Responses API, for tests.

It fills the JSON schema it is asked for. No two answers are alike: numbers are the number of the
request, texts end with it, so that an answer seen twice was not asked for twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

Json = dict[str, Any]
_PIECE = 8  # characters in a chunk of a stream


def fill(schema: Json, number: int, root: Json | None = None) -> Any:
    """A value that fits *schema*, made of *number*."""
    root = schema if root is None else root
    if "$ref" in schema:
        return fill(root["$defs"][schema["$ref"].rpartition("/")[2]], number, root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return fill(options[0], number, root)
    kind = schema.get("type", "object")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: fill(inner, number, root) for name, inner in fields.items()}
    if kind == "array":
        return [fill(schema["items"], number, root) for _ in range(2)]
    simple = {"integer": number, "number": number + 0.5, "boolean": True, "null": None}
    return simple.get(kind, f"Ada {number}")


def schema_in(text: str) -> Json:
    """The first JSON schema written in a text: instructor's JSON modes put it into a message."""
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
            if "properties" in found:
                return found
        except ValueError:
            pass
        start = text.find("{", start + 1)
    return {}


@dataclass
class Answer:
    """What is said to one request, in the shapes of both APIs."""

    request: Json
    number: int
    is_invalid: bool = False
    is_truncated: bool = False
    is_refused: bool = False

    def _json(self, schema: Json) -> str:
        return json.dumps({"wrong": 1} if self.is_invalid else fill(schema, self.number))

    @property
    def tool(self) -> tuple[str, str] | None:
        """Name and arguments of the tool that is called."""
        if self.is_refused or not self.request.get("tools"):
            return None
        tool = self.request["tools"][0]
        tool = tool.get("function", tool)
        return tool["name"], self._json(tool["parameters"])

    @property
    def text(self) -> str:
        """What is written where no tool is called."""
        form = self.request.get("response_format", {})
        if "json_schema" in form:
            return self._json(form["json_schema"]["schema"])
        schema = schema_in(self._said())
        if not schema:
            return f"answer {self.number}"
        return self._json(schema) if form else f"```json\n{self._json(schema)}\n```"

    def _said(self) -> str:
        messages = self.request.get("messages", [])
        return "\n".join(str(message.get("content")) for message in messages)

    @property
    def usage(self) -> Json:
        return {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}

    # -- chat completions ------------------------------------------------------------------

    def completion(self) -> Json:
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        if self.tool is not None:
            name, arguments = self.tool
            function = {"name": name, "arguments": arguments}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        else:
            message["refusal" if self.is_refused else "content"] = self.text
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        head = self._head("chat.completion")
        return {**head, "choices": [choice], "usage": self.usage}

    @property
    def _finish(self) -> str:
        return "length" if self.is_truncated else "stop"

    def _head(self, kind: str) -> Json:
        model = self.request["model"]
        return {"id": f"chatcmpl-{self.number}", "object": kind, "created": 1, "model": model}

    def chunks(self) -> Iterator[Json]:
        head = self._head("chat.completion.chunk")

        def chunk(delta: Json, finish: str | None = None) -> Json:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return {**head, "choices": [choice]}

        name, text = (None, self.text) if self.tool is None else self.tool
        yield chunk({"role": "assistant", "content": "" if name is None else None})
        if name is not None:
            function = {"name": name, "arguments": ""}
            call = {"index": 0, "id": "call_1", "type": "function", "function": function}
            yield chunk({"tool_calls": [call]})
        for piece in _pieces(text):
            call = {"index": 0, "function": {"arguments": piece}}
            said = {"refusal" if self.is_refused else "content": piece}
            yield chunk(said if name is None else {"tool_calls": [call]})
        yield chunk({}, self._finish)

    # -- Responses API -----------------------------------------------------------------------

    def response(self) -> Json:
        status = "incomplete" if self.is_truncated else "completed"
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": 1.0,
            "model": self.request["model"],
            "status": status,
            "output": [self._item()],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "temperature": 1.0,
            "top_p": 1.0,
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 15,
            },
        }

    def _item(self) -> Json:
        if self.tool is not None:
            name, arguments = self.tool
            call = {"type": "function_call", "id": "fc_1", "call_id": "call_1"}
            return {**call, "name": name, "arguments": arguments, "status": "completed"}
        kind = {"type": "refusal", "refusal": "no"}
        text = {"type": "output_text", "text": self.text, "annotations": []}
        content = [kind if self.is_refused else text]
        message = {"type": "message", "id": "msg_1", "role": "assistant"}
        return {**message, "status": "completed", "content": content}

    def events(self) -> Iterator[Json]:
        """The stream of the Responses API."""
        done, item = self.response(), self._item()
        place = {"item_id": item["id"], "output_index": 0}
        yield {"type": "response.created", "response": {**done, "output": []}}
        if self.tool is not None:
            begun = {**item, "arguments": "", "status": "in_progress"}
            yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
            for piece in _pieces(item["arguments"]):
                kind = "response.function_call_arguments.delta"
                yield {"type": kind, **place, "delta": piece}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        yield {"type": "response.completed", "response": done}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


@dataclass
class OpenAIServer:
    """Answers on ``url``; a context manager.

    Attributes:
        latency: Seconds that an answer takes.
        faults: Statuses to answer the next requests with, in order.
        invalid, truncated, refused: How many of the next answers are so.
        calls: How many requests came.
        by_key: How many came with each credential.
        requests: Their bodies.
    """

    latency: float = 0.0
    faults: list[int] = field(default_factory=list)
    invalid: int = 0
    truncated: int = 0
    refused: int = 0
    calls: int = 0
    by_key: Counter[str] = field(default_factory=Counter)
    requests: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Count anew, and answer well."""
        self.latency, self.faults = 0.0, []
        self.invalid = self.truncated = self.refused = self.calls = 0
        self.by_key, self.requests = Counter(), []

    def answer(self, request: Json, credential: str) -> Answer | int:
        """What to say to *request*, or the status to fail it with."""
        with self._lock:
            self.calls += 1
            self.by_key[credential] += 1
            self.requests.append(request)
            if self.faults:
                return self.faults.pop(0)
            ways = {f"is_{way}": self._take(way) for way in ("invalid", "truncated", "refused")}
            return Answer(request, next(_numbers), **ways)

    def _take(self, way: str) -> bool:
        left = getattr(self, way)
        setattr(self, way, max(0, left - 1))
        return left > 0


_numbers = iter(range(1, 1_000_000))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    owner: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        credential = self.headers.get("Authorization", "").removeprefix("Bearer ")
        answer = self.owner.answer(request, credential)
        time.sleep(self.owner.latency)
        if isinstance(answer, int):
            self._send(answer, {"error": {"message": "on purpose", "type": "server_error"}})
        elif request.get("stream"):
            is_chat = "chat" in self.path
            self._stream(answer.chunks() if is_chat else answer.events(), named=not is_chat)
        else:
            self._send(200, answer.completion() if "chat" in self.path else answer.response())

    def _send(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")  # no client of a test's has to be closed
        self.send_header("x-request-id", f"req_{self.owner.calls}")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[Json], *, named: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for number, event in enumerate(events):
            body = {**event, "sequence_number": number} if named else event
            head = f"event: {event['type']}\n" if named else ""
            self._chunk(f"{head}data: {json.dumps(body)}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests look at the counters."""
