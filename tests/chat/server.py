"""A server of chat completions in this process, whose answers a test writes."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What is sent back: `body` as it is, or as JSON; after `seconds`."""

    body: Any
    status: int = 200
    headers: dict[str, str] = {}
    seconds: float = 0.0


class Call(NamedTuple):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def sides(self) -> tuple[str, str]:
        """The two responses, in the order in which they are shown."""
        shown = self.body["messages"][1]["content"]
        first = shown.split("<response_a>\n")[1].split("\n</response_a>")[0]
        second = shown.split("<response_b>\n")[1].split("\n</response_b>")[0]
        return first, second


class Server(NamedTuple):
    url: str
    calls: list[Call]


def says(content: str | None, **message: Any) -> Reply:
    reason = message.pop("finish_reason", "stop")
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": reason}
    return Reply({"object": "chat.completion", "choices": [choice]})


def longer_is_better(call: Call, number: int) -> Reply:
    first, second = map(len, call.sides)
    return says(f"One is longer. [[{'C' if first == second else 'A' if first > second else 'B'}]]")


@contextmanager
def serving(answer: Callable[[Call, int], Reply]) -> Iterator[Server]:
    """`answer` takes a call and how many came before it."""
    calls: list[Call] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            call = Call(self.path, dict(self.headers), body)
            calls.append(call)
            reply = answer(call, len(calls) - 1)
            time.sleep(reply.seconds)
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # who has asked did not wait
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}/v1", calls)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
