"""What a provider's servers answer: OpenAI's two APIs by rule, Anthropic's from a record."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _reading import Reading, Schema, fill

Json = dict[str, Any]

RECORD = Path(__file__).parent / "data" / "anthropic_messages.json"
_CHUNK = 8  # characters of an answer in each piece of a stream


class NotRecorded(LookupError):
    """A request that nothing on record answers."""


def complete(request: Json) -> Json:
    """Give the chat completion that answers *request*, as OpenAI's API would shape it."""
    name, answer = _answered(request)
    message = {"index": 0, "finish_reason": "stop", "message": _message(name, answer)}
    return _completion(request, "chat.completion", [message]) | {"usage": _usage(request, answer)}


def complete_in_chunks(request: Json) -> Iterator[Json]:
    """Give the same completion piece by piece, as a stream brings it."""
    name, answer = _answered(request)
    for start in range(0, len(answer), _CHUNK):
        delta = _message(name, answer[start : start + _CHUNK], is_first=start == 0)
        yield _chunk(request, [{"index": 0, "finish_reason": None, "delta": delta}])
    yield _chunk(request, [{"index": 0, "finish_reason": "stop", "delta": {}}])
    if request.get("stream_options", {}).get("include_usage"):
        yield _chunk(request, []) | {"usage": _usage(request, answer)}


def respond(request: Json) -> Json:
    """Give the answer of OpenAI's Responses API to *request*."""
    said = request["input"]
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    tools = [{"function": tool} for tool in request.get("tools", [])]
    wanted = {"json_schema": request.get("text", {}).get("format", {})}
    asked = {"messages": messages, "tools": tools, "response_format": wanted}
    name, answer = _answered(asked)
    usage = _usage(request, answer)
    return {
        "id": "resp_local",
        "object": "response",
        "created_at": int(time.time()),
        "model": request["model"],
        "status": "completed",
        "output": [_output(name, answer)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": request.get("tools", []),
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def recall(request: Json) -> Json:
    """Give the answer of Anthropic's Messages API that is on record for *request*.

    All that was recorded of a request must be in this one. Raises NotRecorded if none fits.
    """
    for exchange in json.loads(RECORD.read_text("utf-8")):
        if exchange["request"].items() <= request.items():
            return exchange["response"]
    raise NotRecorded(f"no answer is on record in {RECORD.name} for {json.dumps(request)}")


def _answered(request: Json) -> tuple[str | None, str]:
    """The name of the tool that is called, if any, and the answer as JSON."""
    texts = [_text(m["content"]) for m in request["messages"] if m.get("role") == "user"]
    name, schema = _wanted(request)
    return name, json.dumps(fill(schema, Reading(" ".join(" ".join(texts).split())), "", schema))


def _text(content: Any) -> str:
    """What a message says, be it text or a list of parts."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _wanted(request: Json) -> tuple[str | None, Schema]:
    """The name of the tool to call, if any, and the schema to fill."""
    if tools := request.get("tools"):
        return tools[0]["function"]["name"], tools[0]["function"]["parameters"]
    wanted: Schema = (request.get("response_format") or {}).get("json_schema", {})
    return None, wanted.get("schema", {})


def _message(tool: str | None, answer: str, *, is_first: bool = True) -> Json:
    """A message, or with not *is_first* what a later piece of a stream adds to it."""
    role = {"role": "assistant"} if is_first else {}
    if tool is None:
        return {**role, "content": answer}
    named = {"id": "call_1", "type": "function"} if is_first else {}
    function = {"name": tool, "arguments": answer} if is_first else {"arguments": answer}
    return {**role, "content": None, "tool_calls": [{"index": 0, **named, "function": function}]}


def _completion(request: Json, kind: str, choices: list[Json]) -> Json:
    created, model = int(time.time()), request["model"]
    return {"id": "chatcmpl-local", "object": kind, "created": created, "model": model} | {
        "choices": choices
    }


def _chunk(request: Json, choices: list[Json]) -> Json:
    return _completion(request, "chat.completion.chunk", choices)


def _output(tool: str | None, answer: str) -> Json:
    if tool is None:
        said = {"type": "output_text", "text": answer, "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        return {**message, "content": [said]}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed"}
    return {**call, "name": tool, "arguments": answer}


def _usage(request: Json, answer: str) -> dict[str, int]:
    usage = {"prompt_tokens": _tokens(request), "completion_tokens": _tokens(answer)}
    return {**usage, "total_tokens": sum(usage.values())}


def _tokens(spoken: Any) -> int:
    return len(json.dumps(spoken)) // 4  # a token is about four characters of English
