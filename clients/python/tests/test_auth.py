"""Keys and rate limits, against a real server that asks for them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from sheaf_client import SheafError

from .conftest import REPO, Server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "models").mkdir()
    running = Server(folder / "models", folder / "data", "--auth", "keys")
    yield running
    running.stop()


class Keys:
    """Makes keys as an operator does."""

    def __init__(self, nats: str) -> None:
        self._nats = nats

    def verb(self, *args: str) -> str:
        command = [str(REPO / "bin" / "sheaf"), "key", *args, "--nats-url", self._nats]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def create(self, *args: str) -> str:
        key: str = json.loads(self.verb("create", "-o", "json", *args))["key"]
        return key


@pytest.fixture(scope="module")
def keys(guarded: Server) -> Keys:
    return Keys(guarded.find(r"NATS +(nats:\S+)"))


def heard_of(client: Any) -> None:
    """Waits until the server has heard of a new key."""
    end = time.monotonic() + 20
    while True:
        try:
            client.models()
        except SheafError as error:
            if error.status != 401 or time.monotonic() > end:
                raise
        else:
            return


@pytest.mark.parametrize("key", [None, "sheaf_nobody_secret", "not a key"])
def test_who_has_no_key(connect: Any, guarded: Server, digit: list[float], key: str | None) -> None:
    with pytest.raises(SheafError) as caught:
        connect(guarded.url, key).predict("digits", digit, fallback="not for this")
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")


def test_a_key_and_its_tenant(connect: Any, guarded: Server, keys: Keys, digit: list[float]) -> None:
    ours, theirs = (connect(guarded.url, keys.create("--name", t, "--tenant", t)) for t in ("acme", "other"))
    heard_of(ours)
    heard_of(theirs)
    job = ours.submit("digits", digit).wait(20)
    assert np.argmax(job.result()) == 3
    with pytest.raises(SheafError) as caught:
        theirs.job(job.id)
    assert (caught.value.status, caught.value.code) == (404, "unknown-job")


def test_scopes_and_models(connect: Any, guarded: Server, keys: Keys, digit: list[float]) -> None:
    reader = connect(guarded.url, keys.create("--name", "reader", "--scopes", "read"))
    heard_of(reader)
    with pytest.raises(SheafError) as caught:
        reader.submit("digits", digit)
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    narrow = connect(guarded.url, keys.create("--name", "narrow", "--models", "tumor"))
    heard_of(narrow)
    with pytest.raises(SheafError) as caught:
        narrow.predict("digits", digit)
    assert caught.value.status in (403, 404)


def test_a_rate_is_waited_for(connect: Any, guarded: Server, keys: Keys, digit: list[float]) -> None:
    client = connect(guarded.url, keys.create("--name", "slow", "--rate", "1", "--burst", "1"))
    heard_of(client)
    started = time.monotonic()
    for _ in range(2):
        client.predict("digits", digit, timeout=10)
    assert time.monotonic() - started >= 0.8
    hasty = connect(guarded.url, keys.create("--name", "hasty", "--rate", "0.01", "--burst", "1"))
    heard_of(hasty)
    hasty.predict("digits", digit)
    answer = hasty.predict("digits", digit, fallback=0, timeout=5)
    assert (answer.source, answer.error.code) == ("fallback", "rate-limited")
    assert answer.error.retry_after > 5


def test_a_revoked_key(connect: Any, guarded: Server, keys: Keys) -> None:
    key = keys.create("--name", "leaked")
    client = connect(guarded.url, key)
    heard_of(client)
    keys.verb("revoke", key.split("_")[1])
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            client.models()
        except SheafError as error:
            assert (error.status, error.code) == (401, "unauthorized")  # noqa: PT017 - it may take a moment
            return
    raise AssertionError("the key is still good")


def test_triton_shows_a_key(connect: Any, guarded: Server, keys: Keys, digit: list[float]) -> None:
    key = keys.create("--name", "triton")
    heard_of(connect(guarded.url, key))
    headers = {"Authorization": "Bearer " + key}
    with triton.InferenceServerClient(guarded.url.removeprefix("http://")) as client:
        x = triton.InferInput("x", [1, 64], "FP32")
        x.set_data_from_numpy(np.array([digit], np.float32))
        assert client.infer("digits", [x], headers=headers).as_numpy("probabilities").argmax() == 3
        assert client.get_model_metadata("digits", headers=headers)["name"] == "digits"
        with pytest.raises(InferenceServerException) as caught:
            client.infer("digits", [x])
        assert caught.value.status() == "401"
