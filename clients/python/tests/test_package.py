"""What is shipped."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import sheaf_client
from sheaf_client import SheafError, WebhookError


def test_wheel(tmp_path: Path) -> None:
    here = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=here, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (metadata,) = (content.read(name).decode() for name in names if name.endswith("METADATA"))
    assert "sheaf_client/py.typed" in names
    assert f"\nVersion: {sheaf_client.__version__}\n" in metadata
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist")] == [
        "Requires-Dist: httpx<1,>=0.27"
    ]


def test_errors_travel_between_processes() -> None:
    error = SheafError(503, "busy", "later", "input", 2.0, "j", {"title": "x"})
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert vars(twin) == vars(error)
    assert str(pickle.loads(pickle.dumps(WebhookError("old")))) == "webhook: old"
