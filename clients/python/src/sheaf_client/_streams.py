"""The operations on many jobs, whose answers are streams of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Callable
from urllib.parse import urlencode

from . import _encode
from ._core import Core, job_path, model_path
from ._errors import TERMINAL, SheafError, error_of, of_problem
from ._steps import Call, Emit, Failure, Line, Open, Pull, Reply, Shut, Steps, Until
from ._types import Ticket

CHUNK_BYTES = 1 << 20  # of a bulk request
LOOKUP_IDS = 1000  # of one look-up
URL_IDS = 20  # with more, the ids of an event stream go into a body
LASTED = 15.0  # seconds after which an event stream that breaks is no failure, but what proxies do
QUIET = 45.0  # seconds without a word, not even a comment, after which an event stream counts as dead

NDJSON = "application/x-ndjson"
Record = Mapping[str, Any]


class Streams:
    """The streams of a core."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def _lines(
        self,
        call: Callable[[], Call],
        line: Callable[[str], Steps[bool]],
        progress: Callable[[], int],
        repeatable: bool = True,
        patient: bool = False,
    ) -> Steps[None]:
        """Feeds the lines of an answer to line until that says that the answer is whole.

        What is cut off is asked for again, as often as the client retries without progress. A patient stream may be cut
        off for ever, but not at once.
        """
        core, attempt = self._core, 0
        while True:
            request, before, started = call(), progress(), core.now()
            try:
                reply: Reply = yield Open(request)
                if reply.status == 204:
                    return  # an event stream that was over when the connection broke
                if reply.status >= 300:
                    error = error_of(reply.status, reply.headers, reply.body)
                    again = error.passing and (repeatable or error.refused)
                else:
                    text: str | None = yield Line()
                    while text is not None:
                        if (yield from line(text)):
                            return
                        text = yield Line()
                    error = SheafError(None, "cut-off", "the answer ended before its end")
                    again = repeatable
            except Failure as failure:
                error = core.no_answer(failure, request.until)
                again = repeatable or not failure.sent
            except SheafError as told:
                error, again = told, told.passing and repeatable
            if not again:
                raise error
            yield Shut()
            if progress() > before or (patient and core.now() - started >= LASTED):
                attempt = 0
            yield from core.pause(error, attempt, request.until)
            attempt += 1

    def bulk(
        self, model: str, version: str | None, key: str | None, lane: str | None, chunk: int, idle: float
    ) -> Steps[None]:
        """Submits what the caller has, so many lines a request, each answered before the next is read."""
        path = model_path(model, version) + "/bulk" + (f"?lane={lane}" if lane else "")
        start, more = 0, True
        while more:
            lines: list[bytes] = []
            size = 0
            while len(lines) < chunk and size < CHUNK_BYTES:
                item: list[Any] = yield Pull()
                more = bool(item)
                if not more:
                    break
                lines.append(_encode.dumps(_encode.members(item[0])) + b"\n")
                size += len(lines[-1])
            if lines:
                yield from self._bulk_chunk(path, key and f"{key}-{start}", start, lines, idle)
            start += len(lines)

    def _bulk_chunk(self, path: str, key: str | None, start: int, lines: Sequence[bytes], idle: float) -> Steps[None]:
        headers = {**self._core.headers, "content-type": NDJSON, "accept": NDJSON}
        if key:
            headers["idempotency-key"] = key
        body = b"".join(lines)
        told: set[int] = set()

        def line(text: str) -> Steps[bool]:
            answer = _parse(text)
            if answer is None:
                return False
            if "index" not in answer:
                if answer.get("error"):
                    raise of_problem(answer["error"])  # the server could not go on
                return bool(answer.get("done")) and len(told) == len(lines)
            if answer["index"] not in told:
                told.add(answer["index"])
                yield Emit(ticket_of(answer, start))
            return False

        def call() -> Call:
            return Call("POST", path, self._core.forever(None), headers, body, idle)

        yield from self._lines(call, line, lambda: len(told), repeatable=key is not None)

    def lookup(self, ids: Sequence[str], outputs: bool, until: Until) -> Steps[None]:
        """Emits a job for each id, in their order."""
        for first in range(0, len(ids), LOOKUP_IDS):
            yield from self._lookup_chunk(list(ids[first : first + LOOKUP_IDS]), outputs, until)

    def _lookup_chunk(self, waiting: list[str], outputs: bool, until: Until) -> Steps[None]:
        headers = {**self._core.headers, "content-type": "application/json", "accept": NDJSON}

        def line(text: str) -> Steps[bool]:
            answer = _parse(text)
            if answer is not None:
                del waiting[0]
                yield Emit(answer)
            return not waiting

        def call() -> Call:
            body = _encode.dumps({"ids": waiting, "outputs": outputs})
            return Call("POST", "/v1/jobs/lookup", until, headers, body)

        yield from self._lines(call, line, lambda: -len(waiting))

    def events(self, ids: Sequence[str], until: Until) -> Steps[None]:
        """Emits each job at once and at each change of its status, until all are finished."""
        status: dict[str, str | None] = dict.fromkeys(ids)
        events = EventParser()
        changes = 0

        def waiting() -> list[str]:
            return [i for i, s in status.items() if s not in TERMINAL and s != "unknown"]

        def call() -> Call:
            events.reset()
            return self._events_call(waiting(), events.last_id, until)

        def line(text: str) -> Steps[bool]:
            nonlocal changes
            event = events.feed(text)
            if event is None:
                return False
            kind, data = event
            if kind == "end":
                return True
            job = _parse(data)
            if kind == "job" and job is not None and isinstance(job.get("id"), str):
                now = str(job.get("status", "unknown"))
                if status.get(job["id"]) != now:
                    status[job["id"]] = now
                    changes += 1
                    yield Emit(job)
            return not waiting()

        if status:
            yield from self._lines(call, line, lambda: changes, patient=True)

    def _events_call(self, ids: Sequence[str], last_id: str, until: Until) -> Call:
        headers = {**self._core.headers, "accept": "text/event-stream", "cache-control": "no-store"}
        if last_id:
            headers["last-event-id"] = last_id
        if len(ids) == 1:
            return Call("GET", job_path(ids[0]) + "/events", until, headers, None, QUIET)
        if len(ids) <= URL_IDS:
            query = urlencode([("id", i) for i in ids])
            return Call("GET", "/v1/jobs/events?" + query, until, headers, None, QUIET)
        headers["content-type"] = "application/json"
        return Call("POST", "/v1/jobs/events", until, headers, _encode.dumps({"ids": list(ids)}), QUIET)


class EventParser:
    """Reads Server-Sent Events, line by line."""

    def __init__(self) -> None:
        self.last_id = ""
        self.reset()

    def reset(self) -> None:
        self._event, self._id = "", self.last_id
        self._data: list[str] = []

    def feed(self, line: str) -> tuple[str, str] | None:
        """Returns an event, type and data, when line is the end of one."""
        if line == "":
            event = (self._event or "message", "\n".join(self._data)) if self._data else None
            self.last_id = self._id
            self.reset()
            return event
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None


def ticket_of(answer: Record, start: int) -> Ticket:
    problem = answer.get("error")
    return Ticket(
        index=start + int(answer["index"]),
        id=answer.get("id"),
        status=answer.get("status"),
        request_id=answer.get("request_id"),
        error=None if problem is None else of_problem(problem),
    )


def _parse(text: str) -> dict[str, Any] | None:
    """Reads a line of JSON; None if it is cut off."""
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
