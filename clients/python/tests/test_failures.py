"""What a real server cannot be brought to, or not in time: answers that break, servers that refuse and then do not."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest

from sheaf_client import SheafError, SheafTimeoutError

from .scripted import Scripted, answer, problem, reset_after, stream

GOOD = answer(200, {"prediction": [1], "id": "j", "model": "m", "model_version": "1"})
QUEUED = {"id": "j.i1-0", "status": "queued", "model": "m"}
DONE = {"id": "j.i1-0", "status": "succeeded", "outputs": []}
BUSY = answer(503, problem(503, "busy"), Retry_After="0")
UNAVAILABLE = answer(503, problem(503, "unavailable"))
NOTHING = reset_after(b"")
HALF = reset_after(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"prediction"')


@pytest.mark.parametrize("bad", [BUSY, UNAVAILABLE, NOTHING, HALF, answer(502, b"<html>"), answer(504), answer(429)])
def test_tries_again_with_the_same_key(connect: Any, bad: Any) -> None:
    with Scripted(bad, bad, GOOD) as server:
        assert connect(server.url).predict("m", [1]).prediction == [1]
    assert len(server.seen) == 3
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1


@pytest.mark.parametrize(
    "bad",
    [answer(500, problem(500, "internal")), answer(504, problem(504, "expired", id="j", job_status="expired")),
     answer(422, problem(422, "invalid")),
     answer(401, problem(401, "unauthorized")), answer(302, Location="/elsewhere")],
)  # fmt: skip
def test_what_is_not_tried_again(connect: Any, bad: bytes) -> None:
    with Scripted(bad, GOOD) as server, pytest.raises(SheafError):
        connect(server.url).submit("m", [1])
    assert len(server.seen) == 1


@pytest.mark.parametrize(("bad", "again"), [(BUSY, True), (answer(429), True), (UNAVAILABLE, False), (HALF, False)])
def test_without_a_key_only_what_was_not_accepted(connect: Any, bad: Any, again: bool) -> None:
    with Scripted(bad, answer(202, QUEUED)) as server:
        client = connect(server.url)
        if again:
            assert client.submit("m", [1], idempotency_key=None).id == QUEUED["id"]
        else:
            with pytest.raises(SheafError):
                client.submit("m", [1], idempotency_key=None)
    assert len(server.seen) == 1 + again
    assert "idempotency-key" not in server.seen[0].headers


def test_gives_up_after_its_retries(connect: Any) -> None:
    with Scripted(*[BUSY] * 9) as server, pytest.raises(SheafError) as caught:
        connect(server.url, retries=2).models()
    assert len(server.seen) == 3
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "busy", 0)


def test_does_not_wait_in_vain(connect: Any) -> None:
    """What may come only after the time is over is not waited for."""
    started = time.monotonic()
    with (
        Scripted(answer(429, problem(429, "rate-limited"), Retry_After="60")) as server,
        pytest.raises(SheafError) as caught,
    ):
        connect(server.url).predict("m", [1], timeout=5)
    assert time.monotonic() - started < 4
    assert (caught.value.code, caught.value.retry_after) == ("rate-limited", 60)


def test_honours_retry_after(connect: Any) -> None:
    started = time.monotonic()
    with Scripted(answer(503, Retry_After="1"), GOOD) as server:
        connect(server.url).predict("m", [1])
    assert time.monotonic() - started >= 1
    assert len(server.seen) == 2


def drip(conn: socket.socket) -> None:
    """Answers a byte now and then: each comes in time, the whole does not."""
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    conn.settimeout(0.1)
    for _ in range(1000):
        conn.sendall(b" ")
        try:
            if not conn.recv(1):
                return
        except TimeoutError:
            continue


def silence(conn: socket.socket) -> None:
    """Says nothing until the client leaves."""
    conn.recv(1)


@pytest.mark.parametrize("slow", [drip, silence])
def test_time_is_bounded_in_all(connect: Any, slow: Any) -> None:
    started = time.monotonic()
    with Scripted(slow, slow, slow) as server, pytest.raises(SheafTimeoutError, match=r"within 0.6 s"):
        connect(server.url, retries=9).predict("m", [1], timeout=0.6)
    assert time.monotonic() - started < 2
    assert len(server.seen) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status": "odd"}'])
def test_answers_that_are_none(connect: Any, body: bytes) -> None:
    with Scripted(answer(200, body)) as server, pytest.raises(SheafError, match="is this the URL"):
        connect(server.url).submit("m", [1])


def test_problems_without_a_document(connect: Any) -> None:
    with Scripted(answer(404, b"nothing here")) as server, pytest.raises(SheafError, match="nothing here") as caught:
        connect(server.url).model("m")
    assert (caught.value.status, caught.value.code) == (404, "http-404")


def test_headers(connect: Any) -> None:
    with Scripted(answer(202, QUEUED)) as server:
        client = connect(server.url + "/base/", "sheaf_id_secret")
        client.submit("a b/c", {"x": {"datatype": "FP32", "shape": [1], "data": [1]}}, version="2", idempotency_key="k",
                      lane="bulk", webhook="https://x.example/y", outputs=["o"], parameters={"p": 1})  # fmt: skip
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/base/v1/models/a%20b%2Fc/versions/2/jobs")
    assert seen.headers["authorization"] == "Bearer sheaf_id_secret"
    assert seen.headers["idempotency-key"] == "k"
    assert seen.json() == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}],
        "outputs": [{"name": "o"}], "parameters": {"p": 1}, "lane": "bulk", "webhook": "https://x.example/y",
    }  # fmt: skip


def test_wait_goes_on_after_a_break(connect: Any) -> None:
    with Scripted(answer(202, QUEUED), NOTHING, UNAVAILABLE, answer(200, DONE)) as server:
        assert connect(server.url).submit("m", [1]).wait(20).finished
    assert [seen.path.split("=")[0] for seen in server.seen[1:]] == ["/v1/jobs/j.i1-0?wait"] * 3


def test_wait_does_not_ask_all_the_time(connect: Any) -> None:
    """A server that does not wait, although it was asked to."""
    with Scripted(answer(202, QUEUED), *[answer(200, QUEUED)] * 50) as server, pytest.raises(SheafTimeoutError):
        connect(server.url).submit("m", [1]).wait(1.5)
    assert len(server.seen) < 6


# Streams.


def test_bulk_goes_on_where_it_was_cut_off(connect: Any) -> None:
    t = [{"index": i, "id": f"j{i}", "status": "queued"} for i in range(3)]
    refused = {"index": 2, "request_id": "mine", "error": problem(422, "invalid", field="input")}
    done = {"done": True, "accepted": 2, "refused": 1}
    first = {"done": True, "accepted": 3, "refused": 0}
    cut = reset_after(stream(t[0], whole=False) + b"99\r\n" + b'{"index": 1, "id"')
    with Scripted(stream(*t, first), cut, stream(t[0], t[1]), stream(t[0], t[1], refused, done)) as server:
        tickets = list(connect(server.url).bulk("m", iter([[i] for i in range(6)]), chunk=3, lane="interactive"))
    assert [ticket.index for ticket in tickets] == list(range(6))
    assert [ticket.id for ticket in tickets] == ["j0", "j1", "j2", "j0", "j1", None]
    assert (tickets[5].request_id, tickets[5].error.code, tickets[5].error.field) == ("mine", "invalid", "input")
    assert server.seen[0].path == "/v1/models/m/bulk?lane=interactive"
    keys = [seen.headers["idempotency-key"] for seen in server.seen]
    assert keys[1] == keys[2] == keys[3] != keys[0]
    assert server.seen[1].body == server.seen[3].body == b'{"input":[3]}\n{"input":[4]}\n{"input":[5]}\n'


def test_bulk_without_a_key_is_not_sent_twice(connect: Any) -> None:
    with Scripted(BUSY, stream({"index": 0, "id": "j0", "status": "queued"})) as server:
        tickets = connect(server.url).bulk("m", [[1], [2]], idempotency_key=None)
        assert next(tickets).id == "j0"
        with pytest.raises(SheafError, match="cut-off"):
            next(tickets)
    assert len(server.seen) == 2


def test_bulk_goes_on_after_what_passes(connect: Any) -> None:
    ticket = {"index": 0, "id": "j0", "status": "queued"}
    ended = {"done": False, "accepted": 0, "refused": 0, "error": problem(503, "unavailable")}
    wrong = {"done": False, "accepted": 0, "refused": 0, "error": problem(413, "too-large")}
    with Scripted(stream(ended), stream(ticket, {"done": True}), stream(wrong)) as server:
        tickets = connect(server.url).bulk("m", [[1], [2]], chunk=1)
        assert next(tickets).id == "j0"
        with pytest.raises(SheafError, match="too-large"):
            next(tickets)
    assert len(server.seen) == 3


def test_bulk_gives_up(connect: Any) -> None:
    with Scripted(*[stream()] * 9) as server, pytest.raises(SheafError, match="cut-off"):
        list(connect(server.url, retries=2).bulk("m", [[1]]))
    assert len(server.seen) == 3


def test_bulk_reads_no_further_than_it_has_to(connect: Any) -> None:
    read: list[int] = []

    def items() -> Any:
        for i in range(100):
            read.append(i)
            yield [i]

    lines = [{"index": 0, "id": "j0"}, {"index": 1, "id": "j1"}, {"done": True}]
    with Scripted(stream(*lines)) as server:
        tickets = connect(server.url).bulk("m", items(), chunk=2)
        next(tickets)
        tickets.close()
    assert read == [0, 1]


def test_lookup_asks_for_the_rest(connect: Any) -> None:
    a, b, c = ({"id": i, "status": "succeeded"} for i in "abc")
    unknown = {"id": "c", "error": problem(404, "unknown-job")}
    with Scripted(reset_after(stream(a, b, whole=False)), stream(unknown)) as server:
        jobs = list(connect(server.url).lookup(["a", "b", "c"], outputs=False))
    assert [(job.id, job.status) for job in jobs] == [("a", "succeeded"), ("b", "succeeded"), ("c", "unknown")]
    assert jobs[2].error.code == "unknown-job"
    assert [seen.json() for seen in server.seen] == [
        {"ids": ["a", "b", "c"], "outputs": False}, {"ids": ["c"], "outputs": False},
    ]  # fmt: skip
    assert c["id"] == "c"


def event(n: Any, job: Any) -> str:
    return f"id: {n}\nevent: {'end' if n == 'end' else 'job'}\ndata: {json.dumps(job)}\n\n"


def sse(*events: str, whole: bool = True) -> bytes:
    return stream(*events, whole=whole, kind="text/event-stream")


def job(id: str, status: str) -> dict[str, str]:
    return {"id": id, "status": status}


def test_events_connect_again(connect: Any) -> None:
    two = event(1, job("a", "queued")) + event(2, job("b", "succeeded"))
    broken = reset_after(sse(": hello\n\n", two, whole=False))
    second = sse(event(1, job("a", "queued")), event(2, job("a", "running")), "id: 3\nevent: job\nda")
    third = sse(event(3, job("a", "succeeded")), event("end", {}))
    with Scripted(broken, UNAVAILABLE, second, third) as server:
        got = [(j.id, j.status) for j in connect(server.url).events(["a", "b"])]
    assert got == [("a", "queued"), ("b", "succeeded"), ("a", "running"), ("a", "succeeded")]
    assert [seen.path for seen in server.seen] == ["/v1/jobs/events?id=a&id=b"] + ["/v1/jobs/a/events"] * 3
    assert [seen.headers.get("last-event-id") for seen in server.seen] == [None, "2", "2", "2"]


def test_events_that_are_over(connect: Any) -> None:
    with Scripted(answer(204)) as server:
        assert list(connect(server.url).events(["a"])) == []
        assert list(connect(server.url).events([])) == []
    assert len(server.seen) == 1


def test_events_of_many_jobs(connect: Any) -> None:
    ids = [f"j{i}" for i in range(30)]
    with Scripted(sse(*(event(i, job(j, "succeeded")) for i, j in enumerate(ids)))) as server:
        assert [j.id for j in connect(server.url).events(ids)] == ids
    assert (server.seen[0].method, server.seen[0].path, server.seen[0].json()) == (
        "POST",
        "/v1/jobs/events",
        {"ids": ids},
    )


def test_events_that_are_left_hang_up(connect: Any) -> None:
    left = threading.Event()

    def hold(conn: socket.socket) -> None:
        conn.sendall(sse(event(1, job("a", "queued")), whole=False))
        assert conn.recv(1) == b""
        left.set()

    with Scripted(hold) as server:
        client = connect(server.url)
        events = client.events(["a"])
        assert next(events).status == "queued"
        events.close()
        assert left.wait(10)


def test_events_end_in_time(connect: Any) -> None:
    def quiet(conn: socket.socket) -> None:
        conn.sendall(sse(event(1, job("a", "queued")), whole=False))
        conn.recv(1)

    started = time.monotonic()
    with Scripted(quiet) as server:
        events = connect(server.url).events(["a"], timeout=0.5)
        assert next(events).status == "queued"
        with pytest.raises(SheafTimeoutError):
            next(events)
    assert time.monotonic() - started < 2
