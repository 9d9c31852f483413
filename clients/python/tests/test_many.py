"""Many jobs at a time, against a real server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from sheaf_client import AsyncClient, Client, SheafError

from .conftest import Server


def test_bulk(client: Any) -> None:
    rows = 2500
    tickets = list(client.bulk("slow", ([0.0, float(i)] for i in range(rows)), idempotency_key=None))
    assert sorted(ticket.index for ticket in tickets) == list(range(rows))
    assert {ticket.status for ticket in tickets} == {"queued"}
    assert len({ticket.id for ticket in tickets}) == rows
    for ticket in (tickets[0], tickets[-1]):
        assert client.job(ticket).wait(30).result() == [[2 * ticket.index + 1]]


def test_bulk_with_a_key_is_one(client: Any, digit: list[float]) -> None:
    key = str(uuid.uuid4())
    first, second = (
        {t.index: t.id.split(".")[0] for t in client.bulk("digits", [digit] * 5, idempotency_key=key, chunk=2)}
        for _ in range(2)
    )
    assert first == second
    assert len(set(first.values())) == 5


def test_bulk_refuses_line_by_line(client: Any, digit: list[float]) -> None:
    items: list[Any] = [digit, [1, 2], {"input": digit, "id": "mine"}, {"x": np.array([digit], np.float32)}]
    items.append({"input": [1], "id": "other"})
    tickets = {t.index: t for t in client.bulk("digits", items, lane="interactive", version="1")}
    assert [tickets[i].error is None for i in range(5)] == [True, False, True, True, False]
    assert (tickets[1].error.code, tickets[1].error.field, tickets[1].id) == ("invalid", "input", None)
    assert (tickets[2].request_id, tickets[4].request_id) == ("mine", "other")
    assert np.argmax(client.job(tickets[3]).wait(20).result()) == 3


def test_bulk_for_no_model(client: Any) -> None:
    with pytest.raises(SheafError, match="unknown-model"):
        list(client.bulk("nobody", [[1]]))
    assert list(client.bulk("nobody", [])) == []


@pytest.mark.anyio
async def test_bulk_of_asynchronous_items(server: Server, digit: list[float]) -> None:
    async def items() -> AsyncIterator[list[float]]:
        for _ in range(3):
            yield digit

    async with AsyncClient(server.url) as client:
        tickets = [ticket async for ticket in client.bulk("digits", items())]
    assert len(tickets) == 3


def test_lookup(client: Any, digit: list[float]) -> None:
    jobs = [client.submit("digits", digit).wait(20) for _ in range(3)]
    ids = [jobs[0], "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i999999-0", jobs[2].id]
    found = list(client.lookup(ids))
    assert [job.status for job in found] == ["succeeded", "unknown", "succeeded"]
    assert found[0].id == jobs[0].id
    assert np.argmax(found[2].result()) == 3
    assert found[1].error.code == "unknown-job"
    assert [job.outputs for job in client.lookup(ids, outputs=False)] == [[], [], []]
    assert list(client.lookup([])) == []


def test_lookup_of_thousands(client: Any) -> None:
    ids = [t.id for t in client.bulk("slow", ([0.0, float(i)] for i in range(2100)), idempotency_key=None)]
    list(client.events(ids[-1:], timeout=30))
    assert [job.id for job in client.lookup(ids, outputs=False)] == ids


def test_events_of_one_job(client: Any) -> None:
    job = client.submit("slow", [2.0, 5.0])
    seen = list(client.events([job], timeout=30))
    assert seen[-1].status == "succeeded"
    assert seen[-1].result() == [[11]]
    assert len({j.status for j in seen}) == len(seen)


@pytest.mark.parametrize("count", [3, 40])
def test_events_of_several_jobs(client: Any, count: int) -> None:
    jobs = [client.submit("slow", [1.0, float(i)]) for i in range(count)]
    last: dict[str, Any] = {j.id: j for j in client.events(jobs, timeout=30)}
    assert [last[job.id].result() for job in jobs] == [[[2 * i + 1]] for i in range(count)]


def test_events_of_a_canceled_and_an_unknown_job(client: Any) -> None:
    job = client.submit("slow", [100000.0, 5.0])
    events = client.events([job, "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i999999-0"], timeout=30)
    assert next(events).status in ("queued", "running", "unknown")
    job.cancel()
    rest = [j.status for j in events]
    assert "canceled" in rest


def test_events_may_be_left(server: Server) -> None:
    with Client(server.url) as client:
        job = client.submit("slow", [100000.0, 5.0])
        events = client.events([job])
        next(events)
        events.close()
        assert job.cancel().status == "canceled"
