"""A server to test against: the real one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheaf_client import AsyncClient, Client

from .bridge import Bridge

REPO = Path(__file__).resolve().parents[3]


class Server:
    """A running `sheaf dev`, and what it says."""

    def __init__(self, models: Path, data: Path, *flags: str) -> None:
        command = [
            str(REPO / "bin" / "sheaf"),
            "dev",
            "--addr",
            "127.0.0.1:0",
            "--nats-addr",
            "127.0.0.1:0",
            "--grpc-addr",
            "127.0.0.1:0",
        ]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SHEAF_", "REDIS_", "NATS_"))}
        self._process = subprocess.Popen(
            [*command, "--models", str(models), "--data", str(data), *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
        )  # fmt: skip
        self._said: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = self.find(r"HTTP API +(\S+)")
        self.grpc = self.find(r"gRPC +(\S+)")
        self.find("Ctrl-C stops it")  # said when all is ready

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self._said.append(line)
                self._more.notify_all()
        with self._more:
            self._said.append("(it has ended)\n")
            self._more.notify_all()

    def find(self, pattern: str) -> str:
        """Waits for what it prints."""

        def found() -> bool:
            return re.search(pattern, "".join(self._said)) is not None or self._said[-1:] == ["(it has ended)\n"]

        with self._more:
            self._more.wait_for(found, 30)
            match = re.search(pattern, "".join(self._said))
        assert match, f"sheaf dev does not say {pattern!r}:\n" + "".join(self._said)
        return match.group(1) if match.groups() else match.group()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(how)
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._reader.join()
            if self._process.stdout:
                self._process.stdout.close()
        return code


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of all datatypes, and one that takes its time."""
    folder = tmp_path_factory.mktemp("models")
    for pattern in ("identity_*.onnx", "two_inputs.onnx", "two_outputs.onnx", "labels.onnx", "lookup.onnx"):
        for file in (REPO / "model" / "onnx" / "testdata").glob(pattern):
            shutil.copy(file, folder)
    shutil.copytree(REPO / "examples" / "models" / "tumor", folder / "tumor")
    shutil.copytree(REPO / "cmd" / "sheaf" / "testdata" / "models" / "slow", folder / "slow")
    return folder


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(models, tmp_path_factory.mktemp("data"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes clients, blocking ones and asynchronous ones that are called as if they were."""
    if request.param == "sync":
        made: list[Client] = []

        def connect(*args: Any, **kwargs: Any) -> Client:
            made.append(Client(*args, **kwargs))
            return made[-1]

        yield connect
        for client in made:
            client.close()
        return
    loop = asyncio.new_event_loop()
    bridges: list[Bridge] = []

    def bridge(*args: Any, **kwargs: Any) -> Bridge:
        bridges.append(Bridge(AsyncClient(*args, **kwargs), loop))
        return bridges[-1]

    yield bridge
    for made_bridge in bridges:
        made_bridge.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def client(connect: Any, server: Server) -> Any:
    return connect(server.url)


@pytest.fixture(scope="session")
def digit() -> list[float]:
    """A handwritten 3."""
    row: list[float] = json.loads((REPO / "examples" / "digit.json").read_text())["input"]
    return row


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
