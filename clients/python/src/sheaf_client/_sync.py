"""The client, with blocking calls."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

import httpx

from ._core import AUTO, MISSING, Core, Id, Key, LastKnown, id_of, new_key
from ._encode import Deadline
from ._http import check, failure_of, reply_of, request_of
from ._steps import Call, Effect, Emit, Failure, Line, Lines, Open, Pause, Pull, Reply, Send, Steps, T, emitting
from ._streams import Streams
from ._types import JobState, Model, Prediction, Ticket


class _Driver:
    """Carries out steps."""

    def __init__(self, http: httpx.Client, base: str, source: Iterator[Any]) -> None:
        self._http, self._base, self._source = http, base, source
        self._response: httpx.Response | None = None

    def do(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            response = self._send(effect.call)
            try:
                return reply_of(response, self._read(response, effect.call))
            finally:
                response.close()
        if isinstance(effect, Open):
            return self._open(effect.call)
        if isinstance(effect, Line):
            return self._line()
        if isinstance(effect, Pull):
            return list(islice(self._source, 1))
        if isinstance(effect, Pause):
            time.sleep(effect.seconds)
        else:
            self.close()
        return None

    def _send(self, call: Call) -> httpx.Response:
        check(call)
        try:
            return self._http.send(self._http.build_request(**request_of(self._base, call)), stream=True)
        except httpx.HTTPError as error:
            raise failure_of(error) from error

    def _read(self, response: httpx.Response, call: Call) -> bytes:
        body = bytearray()
        try:
            for chunk in response.iter_bytes():
                body += chunk
                check(call)
        except httpx.HTTPError as error:
            raise failure_of(error) from error
        return bytes(body)

    def _open(self, call: Call) -> Reply:
        self.close()
        self._response = self._send(call)
        self._call, self._chunks = call, self._response.iter_bytes()
        self._lines = Lines()
        self._ready: deque[str] = deque()
        return reply_of(self._response, self._read(self._response, call) if self._response.status_code >= 300 else b"")

    def _line(self) -> str | None:
        while not self._ready:
            check(self._call)
            try:
                chunk = next(self._chunks, None)
            except httpx.HTTPError as error:
                raise failure_of(error) from error
            self._ready.extend(self._lines.end() if chunk is None else self._lines.feed(chunk))
            if chunk is None:
                break
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class Job(JobState):
    """A job on the server. Its members are as of the last call."""

    def __init__(self, client: Client, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self._client = client

    def wait(self, timeout: float | None = None) -> Job:
        """Waits until it is finished, however it ends. SheafTimeoutError after timeout seconds; None waits for ever."""
        core = self._client._core
        return self._take(core.wait(self.id, core.forever(timeout)))

    def refresh(self, *, timeout: float | None = None) -> Job:
        """Asks how it stands."""
        core = self._client._core
        return self._take(core.refresh(self.id, core.until(timeout)))

    def cancel(self, *, timeout: float | None = None) -> Job:
        """Cancels it. If it is finished already its result stands: status tells."""
        core = self._client._core
        return self._take(core.cancel(self.id, core.until(timeout)))

    def _take(self, steps: Steps[Mapping[str, Any]]) -> Job:
        self.raw = dict(self._client._run(steps))
        return self


class Client:
    """A client of a Sheaf server. Threads may share one.

    timeout    seconds that a call may take in all, attempts and pauses included, unless the call says otherwise
    retries    how often a request is tried again where that is safe
    last_known_size  answers that are kept for predict(last_known=…)
    http       an httpx.Client of your own, for proxies, certificates and the like; you close it
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        last_known_size: int = 1000,
        http: httpx.Client | None = None,
    ) -> None:
        self._core = Core(url, api_key, timeout, retries, last_known_size)
        self._streams = Streams(self._core)
        self._owned = http is None
        self._http = httpx.Client() if http is None else http

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        if self._owned:
            self._http.close()

    def predict(
        self,
        model: str,
        input: Any,
        *,
        version: str | None = None,
        fallback: Any = MISSING,
        last_known: LastKnown = False,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        lane: str | None = None,
        deadline: Deadline | None = None,
        idempotency_key: Key = AUTO,
    ) -> Prediction:
        """Submits and waits for the prediction.

        If the service is not available within timeout, and only then, the last answer to the same input is given if
        last_known is True (or to the same last_known, if that is a string), else fallback if there is one.
        """
        core = self._core
        s = core.submission(
            "predict", model, input, version=version, outputs=outputs, parameters=parameters, lane=lane,
            deadline=deadline, idempotency_key=idempotency_key,
        )  # fmt: skip
        return self._run(core.predict(s, core.until(timeout), fallback, last_known))

    def submit(
        self,
        model: str,
        input: Any,
        *,
        version: str | None = None,
        idempotency_key: Key = AUTO,
        lane: str | None = None,
        deadline: Deadline | None = None,
        webhook: str | None = None,
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Submits a job. With idempotency_key=None it has no key, and is tried again only if it cannot have arrived."""
        core = self._core
        s = core.submission(
            "jobs", model, input, version=version, outputs=outputs, parameters=parameters, lane=lane,
            deadline=deadline, idempotency_key=idempotency_key, webhook=webhook,
        )  # fmt: skip
        return Job(self, self._run(core.submit(s, core.until(timeout))))

    def job(self, id: Id, *, timeout: float | None = None) -> Job:
        """Looks a job up."""
        return Job(self, self._run(self._core.refresh(id_of(id), self._core.until(timeout))))

    def bulk(
        self,
        model: str,
        items: Iterable[Any],
        *,
        version: str | None = None,
        lane: str | None = None,
        idempotency_key: Key = AUTO,
        chunk: int = 1000,
    ) -> Generator[Ticket, None, None]:
        """Submits many jobs: items are inputs, or whole bodies with "input" or "inputs".

        Items are read as they are sent, chunk at a time, and the tickets of these are given before more are read. The
        client's timeout bounds each silence of the server, not the whole. With idempotency_key=None the server can put
        many jobs into one message, which is faster, but what was cut off is not sent again.
        """
        key, timeout = new_key(idempotency_key), self._core.timeout
        return self._each(self._streams.bulk(model, version, key, lane, chunk, timeout), _same, items)

    def lookup(
        self, ids: Iterable[Id], *, outputs: bool = True, timeout: float | None = None
    ) -> Generator[Job, None, None]:
        """Looks many jobs up, in the order of ids. The status of one that is not there is "unknown"."""
        steps = self._streams.lookup([id_of(i) for i in ids], outputs, self._core.until(timeout))
        return self._each(steps, self._job)

    def events(self, ids: Iterable[Id], *, timeout: float | None = None) -> Generator[Job, None, None]:
        """Gives each job at once and whenever its status changes, until all are finished."""
        steps = self._streams.events([id_of(i) for i in ids], self._core.forever(timeout))
        return self._each(steps, self._job)

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists what has been announced."""
        return self._run(self._core.models(self._core.until(timeout)))

    def model(self, name: str, version: str | None = None, *, timeout: float | None = None) -> Model:
        """Says what a model takes and gives."""
        return self._run(self._core.model(name, version, self._core.until(timeout)))

    def _run(self, steps: Steps[T]) -> T:
        values: list[T] = list(self._each(emitting(steps), _same))
        return values.pop()

    def _job(self, raw: Mapping[str, Any]) -> Job:
        return Job(self, raw)

    def _each(
        self, steps: Steps[None], make: Callable[[Any], T], source: Iterable[Any] = ()
    ) -> Generator[T, None, None]:
        driver = _Driver(self._http, self._core.url, iter(source))
        value: Any = None
        failure: Failure | None = None
        try:
            while True:
                try:
                    effect = steps.send(value) if failure is None else steps.throw(failure)
                except StopIteration:
                    return
                value = failure = None
                if isinstance(effect, Emit):
                    yield make(effect.value)
                    continue
                try:
                    value = driver.do(effect)
                except Failure as err:
                    failure = err
        finally:
            steps.close()
            driver.close()


def _same(value: Any) -> Any:
    return value
