"""The steps that an operation consists of, and the time that it has.

An operation is written once, as a generator that yields what is to be done and is sent the outcome. What carries it
out, with blocking calls or with asyncio, is a driver: see _sync.py and _async.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypeVar, Union

T = TypeVar("T")
Clock = Callable[[], float]


class Until:
    """A moment until which an operation has time."""

    def __init__(self, seconds: float | None, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.seconds = math.inf if seconds is None else max(0.0, seconds)
        self._end = clock() + self.seconds

    def left(self) -> float:
        return self._end - self._clock()


@dataclass(frozen=True)
class Call:
    """One request. until bounds it in all, idle each pause in it."""

    method: str
    path: str
    until: Until
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    idle: float | None = None


@dataclass(frozen=True)
class Reply:
    """An answer. headers have names in lower case; the body of a stream is read by Line."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Failure(Exception):  # noqa: N818 - it is what happened, and becomes an error when nothing more is tried
    """There was no whole answer. sent: whether the server may have seen the request."""

    def __init__(self, detail: str, sent: bool, slow: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent
        self.slow = slow


@dataclass(frozen=True)
class Send:
    """Sends a request, gives its Reply."""

    call: Call


@dataclass(frozen=True)
class Open:
    """Sends a request and gives its Reply, whose lines follow. A stream that was open is closed."""

    call: Call


@dataclass(frozen=True)
class Line:
    """Gives the next line of the open stream, None at its end."""


@dataclass(frozen=True)
class Shut:
    """Closes the open stream."""


@dataclass(frozen=True)
class Pause:
    """Waits."""

    seconds: float


@dataclass(frozen=True)
class Pull:
    """Gives a list of one with the caller's next item, an empty one if there are no more."""


@dataclass(frozen=True)
class Emit:
    """Hands a value to the caller."""

    value: Any


Effect = Union[Send, Open, Line, Shut, Pause, Pull, Emit]
Steps = Generator[Effect, Any, T]


def emitting(steps: Steps[T]) -> Steps[None]:
    """The same steps; their result is emitted."""
    value = yield from steps
    yield Emit(value)


class Timeouts(dict[str, Optional[float]]):
    """The timeouts of a request, for httpx. It reads them before all that can block: each is what is left then."""

    def __init__(self, call: Call) -> None:
        super().__init__(dict.fromkeys(("connect", "read", "write", "pool")))
        self._call = call

    def get(self, _key: str, _default: Any = None) -> float | None:
        least = min(self._call.until.left(), math.inf if self._call.idle is None else self._call.idle)
        return None if least == math.inf else max(least, 0.001)


class Lines:
    """Cuts bytes into lines. Only \\n ends one: str.splitlines cuts inside JSON, at U+2028 and others."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> list[str]:
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        whole = [b"".join(self._rest), *others[:-1]]
        self._rest = [others[-1]]
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]

    def end(self) -> list[str]:
        rest = b"".join(self._rest)
        self._rest = []
        return [rest.decode("utf-8", "replace")] if rest else []
