"""Both clients against a real server."""

from __future__ import annotations

import array
import signal
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from sheaf_client import Client, SheafError, SheafTimeoutError

from .conftest import Server

SLOW_ROW = [2.0, 5.0]  # answered with 11 after a moment
STUCK_ROW = [100000.0, 5.0]  # takes far longer than any test


def test_predict_a_row(client: Any, digit: list[float]) -> None:
    answer = client.predict("digits", digit)
    assert max(range(10), key=answer.prediction.__getitem__) == 3
    assert (answer.model, answer.model_version, answer.source, answer.error) == ("digits", "1", "model", None)
    assert answer.id
    assert answer.timings["batch_rows"] >= 1


def test_predict_rows(client: Any, digit: list[float]) -> None:
    one = client.predict("digits", digit).prediction
    assert np.allclose(client.predict("digits", [digit, digit]).prediction, [one, one], atol=1e-5)


@pytest.mark.parametrize(
    "of",
    [
        lambda row: np.array(row, np.float32),
        lambda row: np.array([row], np.float64),
        lambda row: array.array("d", row),
        lambda row: memoryview(array.array("f", row)),
        tuple,
        lambda row: [np.float32(x) for x in row],
        lambda row: {"input": row},
        lambda row: {"x": np.array([row], np.float32)},
        lambda row: [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": np.array(row)}],
        lambda row: {"x": {"datatype": "FP32", "shape": [1, 64], "data": row}},
    ],
)
def test_predict_takes_arrays(client: Any, digit: list[float], of: Any) -> None:
    assert np.argmax(client.predict("digits", of(digit)).prediction) == 3


def test_predict_inputs_by_name_and_options(client: Any) -> None:
    a, b = np.array([[1, 2]], np.float32), np.array([[10]], np.int64)
    assert client.predict("two_inputs", {"a": a, "b": b}).prediction == [[11, 12]]
    answer = client.predict(
        "two_outputs", [0.5, 3], outputs=["above_one"], parameters={"k": 1}, lane="bulk", version="1"
    )
    assert answer.prediction == [False, True]


def test_text_and_bytes(client: Any) -> None:
    rows = [["a", "zwölf", ""], [b"b", "\u2028", "\n"]]
    assert client.predict("identity_bytes", rows).prediction == [["a", "zwölf", ""], ["b", "\u2028", "\n"]]
    assert client.predict("identity_bytes", np.array([["x", "y", "z"]])).prediction == [["x", "y", "z"]]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("bool", [True, False, True]), ("int8", [-128, 0, 127]), ("uint64", [0, 1, 2**64 - 1]),
     ("int64", [-(2**63), 0, 2**63 - 1]),
     ("float16", [0.5, -2.0, 0.0]), ("float64", [1e300, -0.1, 0.0])],
)  # fmt: skip
def test_datatypes_by_name(client: Any, dtype: str, values: list[Any]) -> None:
    name = {"float16": "identity_fp16", "float64": "identity_fp64"}.get(dtype, "identity_" + dtype)
    assert client.predict(name, {"x": np.array([values], dtype)}).prediction == [values]


def test_submit_wait_and_read(client: Any, digit: list[float]) -> None:
    job = client.submit("digits", [digit])
    assert job.wait(20).status == "succeeded"
    assert job.finished
    assert np.argmax(job.result()[0]) == np.argmax(job.result("probabilities")[0]) == 3
    assert (job.model, job.model_version, job.error) == ("digits", "1", None)
    again = client.job(job.id)
    assert again.refresh().result() == job.result()
    assert client.job(job).id == job.id
    with pytest.raises(KeyError, match="nothing"):
        job.result("nothing")


def test_the_same_key_is_the_same_job(client: Any, digit: list[float]) -> None:
    key = str(uuid.uuid4())
    first = client.submit("digits", digit, idempotency_key=key)
    assert client.submit("digits", digit, idempotency_key=key).id.split(".")[0] == first.id.split(".")[0]
    with pytest.raises(SheafError) as caught:
        client.submit("digits", [0.0] * 64, idempotency_key=key)
    assert (caught.value.status, caught.value.code) == (422, "key-reused")
    other = client.submit("digits", digit), client.submit("digits", digit, idempotency_key=None)
    assert len({first.id, *(job.id for job in other)}) == 3


def test_cancel(client: Any) -> None:
    job = client.submit("slow", STUCK_ROW)
    assert not job.finished
    with pytest.raises(SheafError, match="unfinished"):
        job.result()
    assert job.cancel().status == "canceled"
    assert job.cancel().status == "canceled"
    assert job.wait(5).error.code == "canceled"
    with pytest.raises(SheafError) as caught:
        job.result()
    assert (caught.value.code, caught.value.job_id) == ("canceled", job.id)


def test_cancel_of_a_finished_job_leaves_its_result(client: Any, digit: list[float]) -> None:
    job = client.submit("digits", digit).wait(20)
    assert job.cancel().status == "succeeded"


def test_wait_ends_in_time(client: Any) -> None:
    job = client.submit("slow", STUCK_ROW)
    try:
        started = time.monotonic()
        with pytest.raises(SheafTimeoutError) as caught:
            job.wait(0.5)
        assert 0.3 < time.monotonic() - started < 3
        assert caught.value.job_id == job.id
        assert isinstance(caught.value, TimeoutError)
        assert job.refresh().status in ("queued", "running")
    finally:
        job.cancel()


def test_deadline(client: Any, digit: list[float]) -> None:
    for when in (timedelta(minutes=1), datetime.now(UTC) + timedelta(minutes=1)):
        assert client.submit("digits", digit, deadline=when).wait(20).status == "succeeded"
    with pytest.raises(SheafError) as caught:
        client.submit("digits", digit, deadline=timedelta(seconds=-10)).wait(20).result()
    assert caught.value.code in ("expired", "overloaded", "invalid")


def test_a_job_that_the_model_refuses(client: Any) -> None:
    job = client.submit("lookup", [99]).wait(20)
    assert job.status == "failed"
    assert job.error.code == "inference"
    with pytest.raises(SheafError) as caught:
        client.predict("lookup", [99], fallback="not for this")
    assert (caught.value.status, caught.value.code) == (422, "inference")


@pytest.mark.parametrize(
    ("model", "input", "status", "code", "field"),
    [
        ("nobody", [1], 404, "unknown-model", "model"),
        ("../secret", [1], 404, "unknown-model", "model"),
        ("digits", [1, 2], 422, "invalid", "input"),
        ("digits", "text", None, None, "input"),
    ],
)
def test_what_is_wrong_with_a_request(
    client: Any, model: str, input: Any, status: int | None, code: str | None, field: str
) -> None:
    with pytest.raises(SheafError) as caught:
        client.predict(model, input, fallback=0, last_known=True)
    error = caught.value
    assert error.status == status or status is None
    assert error.code == code or code is None
    assert error.field == field
    assert error.detail in str(error)


def test_what_json_cannot_carry(client: Any) -> None:
    with pytest.raises(ValueError, match="NaN"):
        client.predict("digits", np.full(64, np.nan))
    with pytest.raises(TypeError, match="got object"):
        client.predict("digits", object())
    with pytest.raises(TypeError, match="shape and dtype"):
        client.predict("digits", {"x": [1, 2]})


def test_models(client: Any) -> None:
    models = {m.name: m for m in client.models()}
    assert {"digits", "tumor", "slow", "identity_bytes"} <= set(models)
    digits = client.model("digits")
    assert digits.inputs[0].shape == (-1, 64)
    assert digits.versions == ("1",)
    assert digits.batchable
    assert digits.max_rows == 128
    assert client.model("digits", "1").outputs == models["digits"].outputs
    with pytest.raises(SheafError, match="unknown-model"):
        client.model("digits", "77")


def test_jobs_that_are_not_there(client: Any) -> None:
    with pytest.raises(SheafError) as caught:
        client.job("0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i999999-0")
    assert (caught.value.status, caught.value.code) == (404, "unknown-job")
    with pytest.raises(SheafError):
        client.job("not/an id?")
    with pytest.raises(ValueError, match="expected the id"):
        client.job("")


def test_last_known_and_fallback(connect: Any, models: Any, tmp_path: Any, digit: list[float]) -> None:
    """The server dies, and the app goes on."""
    running = Server(models, tmp_path)
    try:
        client = connect(running.url, retries=1)
        first = client.predict("digits", digit, last_known=True)
        named = client.predict("digits", digit, last_known="user 7")
    finally:
        running.stop(signal.SIGKILL)
    known = client.predict("digits", digit, last_known=True, fallback=0)
    assert (known.prediction, known.source, known.id) == (first.prediction, "last_known", first.id)
    assert known.error.code == "unreachable"
    other = [0.0] * 64
    assert client.predict("digits", other, last_known="user 7").prediction == named.prediction
    given = client.predict("digits", other, last_known=True, fallback=None)
    assert (given.prediction, given.source, given.error.status) == (None, "fallback", None)
    with pytest.raises(SheafError, match="unreachable"):
        client.predict("digits", other, last_known=True)


def test_predict_ends_in_time_and_keeps_the_job(client: Any) -> None:
    started = time.monotonic()
    answer = client.predict("slow", STUCK_ROW, timeout=1.2, fallback=-1)
    assert time.monotonic() - started < 3
    assert answer.prediction == -1
    assert answer.error.code == "timeout"
    if answer.error.job_id:
        client.job(answer.error.job_id).cancel()


def test_context_manager_and_shared_http(server: Server, digit: list[float]) -> None:
    with Client(server.url + "/") as client:
        assert client.predict("digits", digit).model == "digits"
    with pytest.raises(RuntimeError, match="closed"):
        client.predict("digits", digit)
    with httpx.Client() as http:
        with Client(server.url, http=http) as client:
            client.models()
        assert not http.is_closed


def test_threads_share_a_client(server: Server, digit: list[float]) -> None:
    got: list[int] = []
    with Client(server.url) as client:

        def work() -> None:
            got.extend(int(np.argmax(client.predict("digits", digit).prediction)) for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == [3] * 40


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://", "http://x?y", "http://x#y"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected the URL"):
        Client(url)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"retries": -1}, {"last_known_size": -1}])
def test_what_is_no_setting(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected timeout"):
        Client("http://localhost", **wrong)


def test_slow(client: Any) -> None:
    assert client.predict("slow", SLOW_ROW).prediction == [11]
