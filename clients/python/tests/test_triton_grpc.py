"""Triton's own gRPC clients, unchanged, against a real server."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .conftest import Server
from .tensors import ROWS, texts


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(rows: Any, name: str = "x") -> Any:
    made = triton.InferInput(name, list(rows.shape), np_to_triton_dtype(rows.dtype))
    made.set_data_from_numpy(rows)
    return made


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("digits", "77")
    server = client.get_server_metadata()
    assert server.name == "sheaf"
    assert {"model_repository", "schedule_policy"} <= set(server.extensions)
    assert client.get_model_metadata("digits", as_json=True) == {
        "name": "digits", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "64"]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": ["-1", "10"]}],
    }  # fmt: skip
    config = client.get_model_config("digits", "1", as_json=True)["config"]
    assert config["max_batch_size"] > 0
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["dims"] == ["64"]
    assert client.get_model_config("identity_bytes").config.input[0].data_type == triton.model_config_pb2.TYPE_STRING


def test_repository_index(client: Any) -> None:
    index = {(m.name, m.version): m.state for m in client.get_model_repository_index().models}
    assert index["digits", "1"] == index["identity_bytes", "1"] == "READY"
    with pytest.raises(InferenceServerException, match="loaded by workers") as caught:
        client.load_model("digits")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException):
        client.unload_model("digits")


@pytest.mark.parametrize("kind", ROWS)
def test_every_datatype(client: Any, kind: str) -> None:
    rows = ROWS[kind]
    got = client.infer(f"identity_{kind}", [tensor(rows)], outputs=[triton.InferRequestedOutput("y")])
    assert got.get_output("y").datatype == kind.upper()
    assert list(got.get_output("y").shape) == [1, 3]
    array = texts(got.as_numpy("y")) if kind == "bytes" else got.as_numpy("y")
    assert array.tolist() == rows.tolist()


def test_infer_without_asking_for_outputs(client: Any, digit: list[float]) -> None:
    x = tensor(np.array([digit, digit], np.float32))
    got = client.infer("digits", [x], model_version="1", request_id="my id")
    assert got.as_numpy("probabilities").argmax(axis=1).tolist() == [3, 3]
    response = got.get_response()
    assert (response.id, response.model_name, response.model_version) == ("my id", "digits", "1")
    assert got.as_numpy("nothing") is None


def test_several_inputs_and_outputs(client: Any) -> None:
    a, b = tensor(np.array([[1, 2]], np.float32), "a"), tensor(np.array([[10]], np.int64), "b")
    assert client.infer("two_inputs", [b, a]).as_numpy("sum").tolist() == [[11, 12]]
    x = tensor(np.array([[0.5, 3]], np.float32))
    got = client.infer("two_outputs", [x], outputs=[triton.InferRequestedOutput("above_one")])
    assert got.as_numpy("above_one").tolist() == [[False, True]]
    assert got.as_numpy("plus_one") is None
    assert client.infer("two_outputs", [x]).as_numpy("plus_one").tolist() == [[1.5, 4]]
    labels = client.infer("labels", [tensor(np.array([1, 2, 7], np.int64))]).as_numpy("y")
    assert texts(labels).tolist() == ["one", "zwölf", "?"]


def test_nan_and_infinity(client: Any) -> None:
    rows = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    assert np.array_equal(client.infer("identity_fp32", [tensor(rows)]).as_numpy("y"), rows, equal_nan=True)


def test_priority_timeout_and_parameters(client: Any, digit: list[float]) -> None:
    x = tensor(np.array([digit], np.float32))
    got = client.infer("digits", [x], priority=2, timeout=20_000_000, client_timeout=20, parameters={"mine": "yes"})
    assert got.as_numpy("probabilities").argmax() == 3


def test_compressed_requests(client: Any, digit: list[float]) -> None:
    x = tensor(np.array([digit], np.float32))
    got = client.infer("digits", [x], compression_algorithm="gzip")
    assert got.as_numpy("probabilities").argmax() == 3
    with pytest.raises(InferenceServerException, match="deflate") as caught:
        client.infer("digits", [x], compression_algorithm="deflate")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_what_is_not_done_in_time(client: Any) -> None:
    stuck = tensor(np.array([[1000, 5]], np.float32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", [stuck], timeout=300_000)
    assert caught.value.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", [stuck], client_timeout=0.3)
    assert caught.value.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")


def test_errors(client: Any, digit: list[float]) -> None:
    good = tensor(np.array([digit], np.float32))
    cases: list[tuple[str, Callable[[], Any], str]] = [
        ("no worker has announced a model of this name", lambda: client.infer("nobody", [good]), "NOT_FOUND"),
        ("the highest that is served is 1", lambda: client.infer("digits", [good], model_version="9"), "NOT_FOUND"),
        (r"\[-1,64\]|\[1,63\]",
         lambda: client.infer("digits", [tensor(np.zeros((1, 63), np.float32))]), "INVALID_ARGUMENT"),
        ("FP32", lambda: client.infer("digits", [tensor(np.zeros((1, 64), np.int64))]), "INVALID_ARGUMENT"),
        ("x", lambda: client.infer("digits", [tensor(np.zeros((1, 64), np.float32), "q")]), "INVALID_ARGUMENT"),
        ("probabilities|nothing",
         lambda: client.infer("digits", [good], outputs=[triton.InferRequestedOutput("nothing")]), "INVALID_ARGUMENT"),
        ("sequence", lambda: client.infer("digits", [good], sequence_id=7, sequence_start=True), "UNIMPLEMENTED"),
        ("bounds", lambda: client.infer("lookup", [tensor(np.array([[99]], np.int64))]), "INVALID_ARGUMENT"),
        ("no worker has announced", lambda: client.get_model_metadata("nobody"), "NOT_FOUND"),
        ("no worker has announced", lambda: client.get_model_config("nobody"), "NOT_FOUND"),
    ]  # fmt: skip
    for why, call, status in cases:
        with pytest.raises(InferenceServerException, match=why) as caught:
            call()
        assert caught.value.status() == "StatusCode." + status


def test_async_infer(client: Any, digit: list[float]) -> None:
    """The blocking client's requests in the background."""
    x = tensor(np.array([digit], np.float32))
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for i in range(10):
        client.async_infer("digits", [x], lambda result, error: answers.put((result, error)), request_id=str(i))
    got = [answers.get(timeout=20) for _ in range(10)]
    assert [error for _, error in got] == [None] * 10
    assert sorted(int(result.get_response().id) for result, _ in got) == list(range(10))
    assert {int(result.as_numpy("probabilities").argmax()) for result, _ in got} == {3}


def test_stream(client: Any, digit: list[float]) -> None:
    """One stream, several requests; one that is wrong ends none of the others."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    good, bad = tensor(np.array([digit], np.float32)), tensor(np.zeros((1, 63), np.float32))
    for i, x in enumerate([good, bad, good]):
        client.async_stream_infer("digits", [x], request_id=str(i))
    got = [answers.get(timeout=20) for _ in range(3)]
    client.stop_stream()
    assert [error is None for _, error in got] == [True, False, True]
    assert [got[i][0].get_response().id for i in (0, 2)] == ["0", "2"]
    assert "[1,63]" in str(got[1][1]) or "[-1,64]" in str(got[1][1])


def test_aio(server: Server, digit: list[float]) -> None:
    async def main() -> None:
        async with triton_aio.InferenceServerClient(server.grpc) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("digits")
            assert (await client.get_model_metadata("digits")).versions == ["1"]
            assert any(m.name == "digits" for m in (await client.get_model_repository_index()).models)
            x = tensor(np.array([digit], np.float32))
            got = await asyncio.gather(*(client.infer("digits", [x], request_id=str(i)) for i in range(20)))
            assert [g.get_response().id for g in got] == [str(i) for i in range(20)]
            assert {int(g.as_numpy("probabilities").argmax()) for g in got} == {3}
            with pytest.raises(InferenceServerException, match="no worker has announced"):
                await client.infer("nobody", [x])

    asyncio.run(main())
