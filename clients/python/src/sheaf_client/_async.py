"""The client, for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
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

    def __init__(self, http: httpx.AsyncClient, base: str, source: AsyncIterator[Any]) -> None:
        self._http, self._base, self._source = http, base, source
        self._response: httpx.Response | None = None

    async def do(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            response = await self._send(effect.call)
            try:
                return reply_of(response, await self._read(response, effect.call))
            finally:
                await response.aclose()
        if isinstance(effect, Open):
            return await self._open(effect.call)
        if isinstance(effect, Line):
            return await self._line()
        if isinstance(effect, Pull):
            async for item in self._source:
                return [item]
            return []
        if isinstance(effect, Pause):
            await asyncio.sleep(effect.seconds)
        else:
            await self.close()
        return None

    async def _send(self, call: Call) -> httpx.Response:
        check(call)
        try:
            return await self._http.send(self._http.build_request(**request_of(self._base, call)), stream=True)
        except httpx.HTTPError as error:
            raise failure_of(error) from error

    async def _read(self, response: httpx.Response, call: Call) -> bytes:
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                check(call)
        except httpx.HTTPError as error:
            raise failure_of(error) from error
        return bytes(body)

    async def _open(self, call: Call) -> Reply:
        await self.close()
        response = self._response = await self._send(call)
        self._call, self._chunks = call, response.aiter_bytes()
        self._lines = Lines()
        self._ready: deque[str] = deque()
        return reply_of(response, await self._read(response, call) if response.status_code >= 300 else b"")

    async def _line(self) -> str | None:
        while not self._ready:
            check(self._call)
            try:
                chunk: bytes | None = await self._chunks.__anext__()
            except StopAsyncIteration:
                chunk = None
            except httpx.HTTPError as error:
                raise failure_of(error) from error
            self._ready.extend(self._lines.end() if chunk is None else self._lines.feed(chunk))
            if chunk is None:
                break
        return self._ready.popleft() if self._ready else None

    async def close(self) -> None:
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()


class AsyncJob(JobState):
    """A job on the server. Its members are as of the last call."""

    def __init__(self, client: AsyncClient, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self._client = client

    async def wait(self, timeout: float | None = None) -> AsyncJob:
        """As Job.wait."""
        core = self._client._core
        return await self._take(core.wait(self.id, core.forever(timeout)))

    async def refresh(self, *, timeout: float | None = None) -> AsyncJob:
        """As Job.refresh."""
        core = self._client._core
        return await self._take(core.refresh(self.id, core.until(timeout)))

    async def cancel(self, *, timeout: float | None = None) -> AsyncJob:
        """As Job.cancel."""
        core = self._client._core
        return await self._take(core.cancel(self.id, core.until(timeout)))

    async def _take(self, steps: Steps[Mapping[str, Any]]) -> AsyncJob:
        self.raw = dict(await self._client._run(steps))
        return self


class AsyncClient:
    """As Client, for asyncio; http is an httpx.AsyncClient."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        last_known_size: int = 1000,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._core = Core(url, api_key, timeout, retries, last_known_size)
        self._streams = Streams(self._core)
        self._owned = http is None
        self._http = httpx.AsyncClient() if http is None else http

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        if self._owned:
            await self._http.aclose()

    async def predict(
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
        """As Client.predict."""
        core = self._core
        s = core.submission(
            "predict", model, input, version=version, outputs=outputs, parameters=parameters, lane=lane,
            deadline=deadline, idempotency_key=idempotency_key,
        )  # fmt: skip
        return await self._run(core.predict(s, core.until(timeout), fallback, last_known))

    async def submit(
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
    ) -> AsyncJob:
        """As Client.submit."""
        core = self._core
        s = core.submission(
            "jobs", model, input, version=version, outputs=outputs, parameters=parameters, lane=lane,
            deadline=deadline, idempotency_key=idempotency_key, webhook=webhook,
        )  # fmt: skip
        return AsyncJob(self, await self._run(core.submit(s, core.until(timeout))))

    async def job(self, id: Id, *, timeout: float | None = None) -> AsyncJob:
        """Looks a job up."""
        return AsyncJob(self, await self._run(self._core.refresh(id_of(id), self._core.until(timeout))))

    def bulk(
        self,
        model: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        version: str | None = None,
        lane: str | None = None,
        idempotency_key: Key = AUTO,
        chunk: int = 1000,
    ) -> AsyncGenerator[Ticket, None]:
        """As Client.bulk; items may be asynchronous."""
        key, timeout = new_key(idempotency_key), self._core.timeout
        return self._each(self._streams.bulk(model, version, key, lane, chunk, timeout), _same, items)

    def lookup(
        self, ids: Iterable[Id], *, outputs: bool = True, timeout: float | None = None
    ) -> AsyncGenerator[AsyncJob, None]:
        """As Client.lookup."""
        steps = self._streams.lookup([id_of(i) for i in ids], outputs, self._core.until(timeout))
        return self._each(steps, self._job)

    def events(self, ids: Iterable[Id], *, timeout: float | None = None) -> AsyncGenerator[AsyncJob, None]:
        """As Client.events."""
        steps = self._streams.events([id_of(i) for i in ids], self._core.forever(timeout))
        return self._each(steps, self._job)

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists what has been announced."""
        return await self._run(self._core.models(self._core.until(timeout)))

    async def model(self, name: str, version: str | None = None, *, timeout: float | None = None) -> Model:
        """Says what a model takes and gives."""
        return await self._run(self._core.model(name, version, self._core.until(timeout)))

    async def _run(self, steps: Steps[T]) -> T:
        values: list[T] = [value async for value in self._each(emitting(steps), _same)]
        return values.pop()

    def _job(self, raw: Mapping[str, Any]) -> AsyncJob:
        return AsyncJob(self, raw)

    async def _each(
        self, steps: Steps[None], make: Callable[[Any], T], items: Iterable[Any] | AsyncIterable[Any] = ()
    ) -> AsyncGenerator[T, None]:
        source = _items(items)
        driver = _Driver(self._http, self._core.url, source)
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
                    value = await driver.do(effect)
                except Failure as err:
                    failure = err
        finally:
            steps.close()
            await driver.close()
            await source.aclose()


async def _items(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _same(value: Any) -> Any:
    return value
