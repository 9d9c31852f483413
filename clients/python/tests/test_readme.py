"""What the README says, done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .conftest import Server


def test_readme(server: Server, digit: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "http://localhost:8080" in code
    names: dict[str, Any] = {"pixels": digit, "rows": [digit, digit]}
    exec(code.replace("http://localhost:8080", server.url), names)
    assert len(capsys.readouterr().out.splitlines()) == 2
