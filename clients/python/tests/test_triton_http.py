"""Triton's own HTTP clients, unchanged, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .conftest import Server
from .tensors import ROWS, texts


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4) as client:
        yield client


def tensor(rows: Any, binary: bool = True, name: str = "x") -> Any:
    made = triton.InferInput(name, list(rows.shape), np_to_triton_dtype(rows.dtype))
    return made.set_data_from_numpy(rows, binary_data=binary)


def aio(server: Server, use: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            await use(client)

    asyncio.run(main())


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("digits", "77")
    server = client.get_server_metadata()
    assert server["name"] == "sheaf"
    assert {"binary_tensor_data", "model_repository", "schedule_policy"} <= set(server["extensions"])
    assert client.get_model_metadata("digits") == {
        "name": "digits", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }  # fmt: skip
    config = client.get_model_config("digits", "1")
    assert config["max_batch_size"] > 0
    assert config["input"][0] == {"name": "x", "data_type": "TYPE_FP32", "dims": [64]}


def test_repository_index(client: Any) -> None:
    index = {(m["name"], m["version"]): m["state"] for m in client.get_model_repository_index()}
    assert index["digits", "1"] == index["identity_bytes", "1"] == "READY"
    with pytest.raises(InferenceServerException, match="loaded by workers") as caught:
        client.load_model("digits")
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException):
        client.unload_model("digits")


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("kind", ROWS)
def test_every_datatype(client: Any, kind: str, binary_in: bool, binary_out: bool) -> None:
    rows = ROWS[kind]
    if kind == "bf16" and not binary_in:
        with pytest.raises(InferenceServerException, match="must be sent as binary"):  # the client's own rule
            tensor(rows, binary=False)
        return
    x = tensor(rows, binary_in)
    y = triton.InferRequestedOutput("y", binary_data=binary_out)
    got = client.infer(f"identity_{kind}", [x], outputs=[y])
    assert got.get_output("y")["datatype"] == kind.upper()
    assert got.get_output("y")["shape"] == [1, 3]
    array = got.as_numpy("y")
    if kind == "bytes":
        assert texts(array).tolist() == rows.tolist()
    else:
        assert array.tolist() == rows.tolist()


def test_infer_without_asking_for_outputs(client: Any, digit: list[float]) -> None:
    x = tensor(np.array([digit, digit], np.float32))
    got = client.infer("digits", [x], model_version="1", request_id="my id")
    assert got.as_numpy("probabilities").argmax(axis=1).tolist() == [3, 3]
    response = got.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("my id", "digits", "1")
    assert response["parameters"]["sheaf_job_id"]
    assert got.as_numpy("nothing") is None


def test_several_inputs_and_outputs(client: Any) -> None:
    a = tensor(np.array([[1, 2]], np.float32), binary=False, name="a")
    b = tensor(np.array([[10]], np.int64), name="b")
    assert client.infer("two_inputs", [b, a]).as_numpy("sum").tolist() == [[11, 12]]
    x = tensor(np.array([[0.5, 3]], np.float32))
    got = client.infer("two_outputs", [x], outputs=[triton.InferRequestedOutput("above_one")])
    assert got.as_numpy("above_one").tolist() == [[False, True]]
    assert got.as_numpy("plus_one") is None
    assert client.infer("two_outputs", [x]).as_numpy("plus_one").tolist() == [[1.5, 4]]
    labels = client.infer("labels", [tensor(np.array([1, 2, 7], np.int64))]).as_numpy("y")
    assert texts(labels).tolist() == ["one", "zwölf", "?"]


def test_nan_and_infinity_in_binary(client: Any) -> None:
    rows = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    got = client.infer("identity_fp32", [tensor(rows)]).as_numpy("y")
    assert np.array_equal(got, rows, equal_nan=True)


def test_priority_timeout_and_parameters(client: Any, digit: list[float]) -> None:
    x = tensor(np.array([digit], np.float32))
    got = client.infer("digits", [x], priority=2, timeout=20_000_000, parameters={"mine": "yes"},
                       headers={"Idempotency-Key": "triton-http-1"}, query_params={"lane": "bulk"})  # fmt: skip
    assert got.as_numpy("probabilities").argmax() == 3
    stuck = tensor(np.array([[1000, 5]], np.float32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", [stuck], timeout=300_000)
    assert caught.value.status() in ("503", "504")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_refused_clearly(client: Any, digit: list[float], algorithm: str) -> None:
    with pytest.raises(InferenceServerException, match="not compressed") as caught:
        client.infer("digits", [tensor(np.array([digit], np.float32))], request_compression_algorithm=algorithm)
    assert caught.value.status() == "415"


def test_errors(client: Any, digit: list[float]) -> None:
    good = tensor(np.array([digit], np.float32))
    cases: list[tuple[str, Callable[[], Any], str]] = [
        (r"no worker has announced a model of this name", lambda: client.infer("nobody", [good]), "404"),
        (r"the highest that is served is 1", lambda: client.infer("digits", [good], model_version="9"), "404"),
        (r"\[-1,64\]|\[1,63\]", lambda: client.infer("digits", [tensor(np.zeros((1, 63), np.float32))]), "422"),
        (r"FP32", lambda: client.infer("digits", [tensor(np.zeros((1, 64), np.int64))]), "422"),
        (r"x", lambda: client.infer("digits", [tensor(np.zeros((1, 64), np.float32), name="q")]), "422"),
        (r"probabilities|nothing",
         lambda: client.infer("digits", [good], outputs=[triton.InferRequestedOutput("nothing")]), "422"),
        (r"sequence", lambda: client.infer("digits", [good], sequence_id=7, sequence_start=True), "400"),
        (r"classification",
         lambda: client.infer("digits", [good], outputs=[triton.InferRequestedOutput("probabilities", class_count=2)]),
         "400"),
        (r"bounds", lambda: client.infer("lookup", [tensor(np.array([[99]], np.int64))]), "422"),
        (r"no worker has announced", lambda: client.get_model_metadata("nobody"), "404"),
        (r"no worker has announced", lambda: client.get_model_config("nobody"), "404"),
    ]  # fmt: skip
    for why, call, status in cases:
        with pytest.raises(InferenceServerException, match=why) as caught:
            call()
        assert caught.value.status() == status
        assert caught.value.message()


def test_async_infer(client: Any, digit: list[float]) -> None:
    """The blocking client's requests in the background."""
    x = tensor(np.array([digit], np.float32))
    pending = [client.async_infer("digits", [x], request_id=str(i)) for i in range(10)]
    for i, one in enumerate(pending):
        got = one.get_result()
        assert got.get_response()["id"] == str(i)
        assert got.as_numpy("probabilities").argmax() == 3


def test_generate_and_parse_bodies(digit: list[float]) -> None:
    """What those use who send the requests themselves."""
    body, length = triton.InferenceServerClient.generate_request_body([tensor(np.array([digit], np.float32))])
    assert length
    assert len(body) > length


def test_aio(server: Server, digit: list[float]) -> None:
    async def use(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_model_ready("digits")
        assert (await client.get_model_metadata("digits"))["versions"] == ["1"]
        assert any(m["name"] == "digits" for m in await client.get_model_repository_index())
        x = tensor(np.array([digit], np.float32))
        got = await asyncio.gather(*(client.infer("digits", [x], request_id=str(i)) for i in range(20)))
        assert [g.get_response()["id"] for g in got] == [str(i) for i in range(20)]
        assert {int(g.as_numpy("probabilities").argmax()) for g in got} == {3}
        plain = triton.InferRequestedOutput("probabilities", binary_data=False)
        in_json = tensor(np.array([digit], np.float32), binary=False)
        assert (await client.infer("digits", [in_json], outputs=[plain])).as_numpy("probabilities").argmax() == 3
        with pytest.raises(InferenceServerException, match="no worker has announced"):
            await client.infer("nobody", [x])

    aio(server, use)
