"""A server that does what a test tells it to: for what a real one cannot be brought to."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

Talk = Callable[[socket.socket], None]
Act = bytes | Talk


@dataclass
class Seen:
    """A request that has arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def answer(status: int, body: Any = None, **headers: str) -> bytes:
    """Makes a whole answer."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def problem(status: int, code: str, detail: str = "because", **more: Any) -> dict[str, Any]:
    return {"type": f"/problems/{code}", "title": code, "status": status, "detail": detail, **more}


def stream(*lines: Any, whole: bool = True, kind: str = "application/x-ndjson") -> bytes:
    """Makes a chunked answer, one line a chunk, which may lack its end."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    )
    chunks = [line.encode() if isinstance(line, str) else json.dumps(line).encode() + b"\n" for line in lines]
    body = b"".join(f"{len(c):x}\r\n".encode() + c + b"\r\n" for c in chunks)
    return head + body + (b"0\r\n\r\n" if whole else b"")


def reset_after(content: bytes) -> Talk:
    """Sends content, then resets the connection."""

    def talk(conn: socket.socket) -> None:
        conn.sendall(content)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return talk


class Scripted:
    """Does the next act for each request that comes."""

    def __init__(self, *acts: Act) -> None:
        self._acts = list(acts)
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with socket.create_connection(self._listener.getsockname()):
            pass  # wakes the thread
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self.closing.is_set():
            conn, _ = self._listener.accept()
            with conn, contextlib.suppress(OSError):  # the client may leave when it likes
                self._one(conn)

    def _one(self, conn: socket.socket) -> None:
        with conn.makefile("rb") as reader:
            first = reader.readline().decode().split()
            if not first:
                return
            headers: dict[str, str] = {}
            for line in iter(reader.readline, b"\r\n"):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = reader.read(int(headers.get("content-length", 0)))
        self.seen.append(Seen(first[0], first[1], headers, body))
        act = self._acts.pop(0) if self._acts else answer(500, problem(500, "internal", "the script is over"))
        if callable(act):
            act(conn)
        else:
            conn.sendall(act)
