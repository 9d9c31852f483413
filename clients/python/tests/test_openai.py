"""OpenAI's own client, unchanged, against a real server: files and batches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from .conftest import Server

ENDPOINT: Any = "/v1/models/digits/predict"  # the client's types know OpenAI's endpoints only
FINAL = ("completed", "failed", "expired", "cancelled")


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none") as client:
        yield client


def line(custom_id: str, row: Any, url: str = ENDPOINT) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": {"input": row}})


@pytest.fixture
def requests(tmp_path: Path, digit: list[float]) -> Path:
    """300 lines, three of them bad."""
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(line(f"row-{i}", digit[: 63 if i % 100 == 7 else 64]) + "\n" for i in range(300)))
    return file


def wait(client: openai.OpenAI, batch_id: str, status: tuple[str, ...] = FINAL) -> Any:
    for _ in range(500):
        batch = client.batches.retrieve(batch_id)
        if batch.status in status:
            return batch
        time.sleep(0.05)
    raise AssertionError(f"the batch is still {batch.status}")


def test_batch(client: openai.OpenAI, requests: Path) -> None:
    with requests.open("rb") as content:
        file = client.files.create(file=content, purpose="batch")
    assert (file.object, file.filename, file.purpose, file.status) == ("file", "requests.jsonl", "batch", "processed")
    assert file.bytes == requests.stat().st_size
    assert client.files.content(file.id).text == requests.read_text()

    made = client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={"run": "7"}
    )
    assert (made.object, made.endpoint, made.input_file_id) == ("batch", ENDPOINT, file.id)
    assert made.completion_window == "24h"
    assert made.status in ("validating", "in_progress")

    batch = wait(client, made.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 300, "completed": 297, "failed": 3}
    assert batch.metadata == {"run": "7"}
    assert batch.errors is None
    assert batch.created_at <= batch.in_progress_at <= batch.completed_at <= batch.expires_at
    assert batch.failed_at is None

    assert batch.output_file_id
    assert batch.error_file_id
    results = [json.loads(text) for text in client.files.content(batch.output_file_id).text.splitlines()]
    assert {r["custom_id"] for r in results} == {f"row-{i}" for i in range(300) if i % 100 != 7}
    for result in results:
        assert result["error"] is None
        assert result["response"]["status_code"] == 200
        prediction = result["response"]["body"]["prediction"]
        assert prediction.index(max(prediction)) == 3
    errors = [json.loads(text) for text in client.files.content(batch.error_file_id).text.splitlines()]
    assert {(e["custom_id"], e["error"]["code"], e["error"]["line"]) for e in errors} == {
        (f"row-{i}", "invalid", i + 1) for i in (7, 107, 207)
    }
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


def test_lists(client: openai.OpenAI, digit: list[float]) -> None:
    files = [client.files.create(file=(f"{i}.jsonl", line("a", digit).encode()), purpose="batch").id for i in range(3)]
    batches = [client.batches.create(input_file_id=f, endpoint=ENDPOINT, completion_window="24h").id for f in files]
    # The client turns the pages by itself.
    listed = [b.id for b in client.batches.list(limit=2)]
    assert [b for b in listed if b in batches] == batches[::-1]
    assert len(listed) == len(set(listed))
    assert [f.id for f in client.files.list(limit=2, purpose="batch") if f.id in files] == files[::-1]
    for batch in batches:
        assert wait(client, batch).status == "completed"
    gone = client.files.delete(files[0])
    assert (gone.id, gone.deleted) == (files[0], True)
    with pytest.raises(openai.NotFoundError, match="no file under this id") as caught:
        client.files.retrieve(files[0])
    assert caught.value.code == "unknown-file"


def test_cancel(client: openai.OpenAI, requests: Path) -> None:
    file = client.files.create(file=requests, purpose="batch")
    made = client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", extra_body={"max_rate": 1}
    )
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    batch = wait(client, made.id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at
    with pytest.raises(openai.ConflictError, match="too late"):
        client.with_options(max_retries=0).batches.cancel(made.id)


def test_what_is_wrong_is_said(client: openai.OpenAI, tmp_path: Path, digit: list[float]) -> None:
    client = client.with_options(max_retries=0)
    with pytest.raises(openai.NotFoundError, match="no batch under this id"):
        client.batches.retrieve("batch_0198f3c27b1e7c339d5f3c6b7a2f8e12")
    with pytest.raises(openai.UnprocessableEntityError, match="purpose"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    file = client.files.create(file=("a.jsonl", line("a", digit).encode()), purpose="batch")
    nobody: Any = "/v1/models/nobody/predict"
    with pytest.raises(openai.NotFoundError, match="no worker has announced"):
        client.batches.create(input_file_id=file.id, endpoint=nobody, completion_window="24h")
    # One whose file cannot be used at all fails, and says why.
    twice = (line("a", digit) + "\n") * 2
    file = client.files.create(file=("twice.jsonl", twice.encode()), purpose="batch")
    batch = wait(client, client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h").id)
    assert batch.status == "failed"
    assert batch.errors
    assert batch.errors.data
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == ("duplicate_custom_id", 2)
    assert batch.output_file_id is None
    assert batch.failed_at
