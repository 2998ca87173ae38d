"""A language model of sorts on localhost: fills JSON schemas with what rules find in a text.

It speaks enough of OpenAI's APIs (chat completions, streamed or not, and Responses) for `openai`,
`instructor` and their like to work with it unchanged, and plays back recorded answers of
Anthropic's. It waits as long as a model would, and counts its calls, so that the examples run
without a key, a network or a bill::

    with LocalLLM(delay=0.5) as llm:
        client = instructor.from_openai(OpenAI(base_url=llm.url, api_key="none"))

or, for other programs, ``python examples/local_llm.py --port 8000 --delay 0.5``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from _apis import Json, NotRecorded, complete, complete_in_chunks, recall, respond

if TYPE_CHECKING:
    from typing_extensions import Self


class LocalLLM:
    """A server on localhost that takes about *delay* seconds over an answer; a context manager.

    Attributes:
        calls: How many answers it has been asked for.
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

    def answer(self, path: str, request: Json) -> Json | Iterator[Json]:
        """Give the answer, or the pieces of one that is streamed, after thinking about it."""
        with self._counting:
            self.calls += 1
        time.sleep(self._delay * random.uniform(0.8, 1.2))
        if path.endswith("/messages"):
            return recall(request)
        if path.endswith("/responses"):
            return respond(request)
        return complete_in_chunks(request) if request.get("stream") else complete(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"llm": self})


class _Handler(BaseHTTPRequestHandler):
    llm: LocalLLM

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer = self.llm.answer(self.path, request)
        except NotRecorded as error:
            self._send(404, {"type": "error", "error": {"type": "api", "message": str(error)}})
        else:
            if isinstance(answer, dict):
                self._send(200, answer)
            else:
                self._stream(answer)

    def _send(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self._head(status, "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, pieces: Iterator[Json]) -> None:
        """Send server-sent events; the end of the connection ends them."""
        self._head(200, "text/event-stream")
        self.end_headers()
        with suppress(ConnectionError):  # the client has seen enough
            for piece in pieces:
                self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

    def _head(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("x-request-id", f"req_{self.llm.calls}")

    def log_message(self, *_: object) -> None:
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
