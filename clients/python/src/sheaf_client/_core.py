"""The operations, without I/O: what is sent, what is tried again and when, and what the answers mean."""

from __future__ import annotations

import hashlib
import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Callable, Final, Union
from urllib.parse import quote, urlsplit

from . import _encode
from ._errors import TERMINAL, SheafError, SheafTimeoutError, error_of
from ._memory import Memory
from ._steps import Call, Clock, Failure, Pause, Reply, Send, Steps, Until
from ._types import Model, Prediction, model_of

VERSION = "0.1.0"


class Auto(Enum):
    """Default of an Idempotency-Key: a new one."""

    AUTO = "auto"


class Missing(Enum):
    """Default of a fallback: none."""

    MISSING = "missing"


AUTO: Final = Auto.AUTO
MISSING: Final = Missing.MISSING

Key = Union[str, None, Auto]
LastKnown = Union[bool, str]
Id = Union[str, Any]  # of a job, or a ticket, or anything else with an id

HOLD = 20.0  # seconds that one request waits for a job
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


@dataclass(frozen=True)
class Submission:
    """A request for a prediction, ready to be sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    key: str | None


class Core:
    """What both clients share. It is safe to use from several threads."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout: float,
        retries: int,
        last_known_size: int,
        clock: Clock = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"expected the URL of a server, such as http://localhost:8080, got {url!r}")
        if timeout <= 0 or retries < 0 or last_known_size < 0:
            raise ValueError("expected timeout above 0, retries and last_known_size of 0 or more")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.retries = retries
        self.headers: dict[str, str] = {"user-agent": f"sheaf-client-python/{VERSION}"}
        if api_key:
            self.headers["authorization"] = f"Bearer {api_key}"
        self._memory = Memory(last_known_size)
        self._clock = clock
        self._rand = rand

    def until(self, seconds: float | None) -> Until:
        """The end of a request's time: the client's, unless the caller says so."""
        return Until(self.timeout if seconds is None else seconds, self._clock)

    def forever(self, seconds: float | None) -> Until:
        """The end of a wait: never, unless the caller says so."""
        return Until(seconds, self._clock)

    def now(self) -> float:
        return self._clock()

    # Requests, and trying them again.

    def exchange(self, make: Callable[[], Call], until: Until, repeatable: bool) -> Steps[Reply]:
        """Sends a request until it is answered, refused for good, or out of time."""
        attempt = 0
        while True:
            try:
                reply: Reply = yield Send(make())
            except Failure as failure:
                error, again = self.no_answer(failure, until), repeatable or not failure.sent
            else:
                if reply.status < 300:
                    return reply
                error = error_of(reply.status, reply.headers, reply.body)
                again = error.passing and (repeatable or error.refused)
            if not again:
                raise error
            yield from self.pause(error, attempt, until)
            attempt += 1

    def pause(self, error: SheafError, attempt: int, until: Until) -> Steps[None]:
        """Waits before the next attempt, with full jitter on top of Retry-After; raises error if there is none."""
        if attempt >= self.retries:
            raise error
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**attempt) * self._rand() + (error.retry_after or 0.0)
        if seconds >= until.left():
            raise error
        yield Pause(seconds)

    def no_answer(self, failure: Failure, until: Until) -> SheafError:
        """Makes the error of a request that got no answer."""
        if until.left() <= 0.005:
            return self.too_late(until)
        return SheafError(None, "timeout" if failure.slow else "unreachable", failure.detail)

    def too_late(self, until: Until, job_id: str | None = None) -> SheafTimeoutError:
        return SheafTimeoutError(None, "timeout", f"not done within {until.seconds:g} s", job_id=job_id)

    def get(self, path: str, until: Until) -> Steps[Any]:
        reply = yield from self.exchange(lambda: Call("GET", path, until, self.headers), until, repeatable=True)
        return document(reply)

    # Predictions.

    def submission(
        self,
        action: str,
        model: str,
        input: Any,
        *,
        version: str | None,
        outputs: Sequence[str] | None,
        parameters: Mapping[str, Any] | None,
        lane: str | None,
        deadline: _encode.Deadline | None,
        idempotency_key: Key,
        webhook: str | None = None,
    ) -> Submission:
        headers = {**self.headers, "content-type": "application/json"}
        key = new_key(idempotency_key)
        if key is not None:
            headers["idempotency-key"] = key
        if deadline is not None:
            headers["sheaf-deadline"] = _encode.deadline(deadline)
        body = _encode.body(input, outputs, parameters, lane, webhook)
        return Submission(model_path(model, version) + "/" + action, headers, body, key)

    def predict(self, s: Submission, until: Until, fallback: Any, last_known: LastKnown) -> Steps[Prediction]:
        def call() -> Call:
            # The server is told to answer before this client stops listening.
            wait = min(60, max(1, int(until.left())))
            return Call("POST", s.path, until, {**s.headers, "prefer": f"wait={wait}"}, s.body)

        memory_key = ""
        if last_known:
            own = last_known.encode() if isinstance(last_known, str) else s.body
            memory_key = s.path + " " + hashlib.sha256(own).hexdigest()
        try:
            reply = yield from self.exchange(call, until, repeatable=s.key is not None)
            answer = document(reply)
        except SheafError as error:
            if not error.unavailable:
                raise
            known = self._memory.get(memory_key) if memory_key else None
            if known is not None:
                return replace(known, source="last_known", error=error)
            if fallback is MISSING:
                raise
            return Prediction(fallback, source="fallback", error=error)
        prediction = Prediction(
            answer.get("prediction"), answer.get("id"), answer.get("model"), answer.get("model_version"),
            answer.get("timings") or {},
        )  # fmt: skip
        if memory_key:
            self._memory.put(memory_key, prediction)
        return prediction

    # Jobs.

    def submit(self, s: Submission, until: Until) -> Steps[Mapping[str, Any]]:
        def call() -> Call:
            return Call("POST", s.path, until, s.headers, s.body)

        reply = yield from self.exchange(call, until, repeatable=s.key is not None)
        return job_document(reply)

    def refresh(self, job_id: str, until: Until) -> Steps[Mapping[str, Any]]:
        path = job_path(job_id)
        reply = yield from self.exchange(lambda: Call("GET", path, until, self.headers), until, repeatable=True)
        return job_document(reply)

    def wait(self, job_id: str, until: Until) -> Steps[Mapping[str, Any]]:
        while True:
            left = until.left()
            if left <= 0.005:
                raise self.too_late(until, job_id)
            # Time is left for the answer, so that the server ends the wait and not this client.
            hold = min(HOLD, left - min(1.0, left / 5))
            poll = Until(min(left, hold + self.timeout), self._clock)
            path = f"{job_path(job_id)}?wait={max(1, int(hold * 1000))}ms"
            started = self._clock()
            try:
                reply = yield from self.exchange(_caller("GET", path, poll, self.headers), poll, repeatable=True)
            except SheafTimeoutError:
                if until.left() <= 0.005:
                    raise self.too_late(until, job_id) from None
                raise
            job = job_document(reply)
            if job.get("status") in TERMINAL:
                return job
            if self._clock() - started < min(1.0, hold / 2):
                yield Pause(max(0.0, min(until.left(), 1.0)))  # a server that does not wait is not asked all the time

    def cancel(self, job_id: str, until: Until) -> Steps[Mapping[str, Any]]:
        path = job_path(job_id)
        try:
            reply = yield from self.exchange(lambda: Call("DELETE", path, until, self.headers), until, repeatable=True)
        except SheafError as error:
            if error.code != "finished":
                raise
            return (yield from self.refresh(job_id, until))
        return job_document(reply)

    # Models.

    def models(self, until: Until) -> Steps[list[Model]]:
        answer = yield from self.get("/v1/models", until)
        return [model_of(raw) for raw in answer["models"]]

    def model(self, name: str, version: str | None, until: Until) -> Steps[Model]:
        answer = yield from self.get(model_path(name, version), until)
        return model_of(answer)


def _caller(method: str, path: str, until: Until, headers: Mapping[str, str]) -> Callable[[], Call]:
    return lambda: Call(method, path, until, headers)


def new_key(key: Key) -> str | None:
    return str(uuid.uuid4()) if isinstance(key, Auto) else key


def model_path(model: str, version: str | None) -> str:
    path = "/v1/models/" + quote(model, safe="")
    return path if version is None else path + "/versions/" + quote(version, safe="")


def job_path(job_id: str) -> str:
    return "/v1/jobs/" + quote(job_id, safe="")


def id_of(job: Id) -> str:
    job_id = job if isinstance(job, str) else job.id
    if not isinstance(job_id, str) or not job_id:
        raise ValueError(f"expected the id of a job, or a job, got {job!r}")
    return job_id


def document(reply: Reply) -> dict[str, Any]:
    try:
        answer = json.loads(reply.body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise SheafError(reply.status, "no-answer", "the answer is not JSON: is this the URL of a Sheaf server?")
    return answer


def job_document(reply: Reply) -> dict[str, Any]:
    job = document(reply)
    if not isinstance(job.get("id"), str):
        raise SheafError(reply.status, "no-answer", "the answer is not a job: is this the URL of a Sheaf server?")
    return job
