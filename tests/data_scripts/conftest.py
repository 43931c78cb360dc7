"""A web server on this machine that misbehaves as it is told."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Answer:
    """How one request is answered: a file, with the faults that are named."""

    body: bytes = b""
    status: int = 200
    etag: str | None = '"one"'
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: int | None = None  # bytes of the body after which the connection is closed
    ranges: bool = True  # whether Range is honoured
    if_range: bool = True  # whether If-Range is honoured
    shift: int = 0  # how many bytes off a continued range starts
    chunked: bool = False
    then: Callable[[], object] | None = None  # called after the body, before the connection is closed


class Server:
    """The last answer of an address is given for ever, those before it once each, in turn."""

    answer = Answer

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str, *answers: Answer) -> str:
        self.answers[f"/{path}"] = list(answers)
        return f"{self.address}/{path}"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            told.requests.append((self.path, dict(self.headers)))
            answers = told.answers.get(self.path, [Answer(status=404)])
            self.close_connection = True
            self.answer(answers.pop(0) if len(answers) > 1 else answers[0])

        def answer(self, answer: Answer) -> None:
            body, start, status = answer.body, 0, answer.status
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = not answer.if_range or self.headers.get("If-Range") in (None, answer.etag)
            if wanted and answer.ranges and same and status == 200:
                start = int(wanted[1]) + answer.shift
                status = 206 if start < len(body) else 416
            self.send_response(status)
            if answer.etag:
                self.send_header("ETag", answer.etag)
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(body)}")
                body, start = b"", 0
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Type", answer.kind)
            if answer.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(body) - start))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            sent = body[start : answer.drop_after] if answer.drop_after is not None else body[start:]
            if answer.chunked:
                sent = b"%x\r\n%s\r\n" % (len(sent), sent) + (b"" if answer.drop_after is not None else b"0\r\n\r\n")
            self.wfile.write(sent)
            self.wfile.flush()
            if answer.then:
                answer.then()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        told = Server(f"http://127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield told
        listening.shutdown()
        thread.join()
