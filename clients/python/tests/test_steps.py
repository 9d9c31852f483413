"""What takes too long to be seen from outside: pauses, and time that is over."""

from __future__ import annotations

from typing import Any

import pytest

from sheaf_client import SheafError
from sheaf_client._core import Core
from sheaf_client._steps import Failure, Lines, Pause, Reply, Send


def pauses(core: Core, reply: Any, timeout: float) -> list[float]:
    """Runs a request that is always answered so; gives how long it paused, and moves the clock."""
    steps, waited = core.models(core.until(timeout)), []
    effect = next(steps)
    try:
        while True:
            if isinstance(effect, Pause):
                waited.append(effect.seconds)
                effect = steps.send(None)
            else:
                assert isinstance(effect, Send)
                effect = steps.throw(reply) if isinstance(reply, Failure) else steps.send(reply)
    except SheafError:
        return waited


def make(rand: float, retries: int = 9) -> Core:
    return Core("http://x", None, 30, retries, 0, clock=lambda: 0.0, rand=lambda: rand)


def test_pauses_have_full_jitter() -> None:
    failure = Failure("gone", sent=True)
    assert pauses(make(1.0), failure, 300) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert pauses(make(0.0, 3), failure, 300) == [0.0, 0.0, 0.0]
    assert pauses(make(0.5, 3), failure, 300) == [0.05, 0.1, 0.2]


def test_retry_after_is_the_least() -> None:
    assert pauses(make(0.5, 2), Reply(503, {"retry-after": "7"}), 300) == [7.05, 7.1]
    date = {"date": "Mon, 23 Nov 2026 04:00:00 GMT", "retry-after": "Mon, 23 Nov 2026 04:00:09 GMT"}
    assert pauses(make(0.0, 1), Reply(503, date), 300) == [9.0]
    assert pauses(make(0.0, 1), Reply(503, {"retry-after": "soon"}), 300) == [0.0]


def test_no_pause_goes_past_the_end() -> None:
    assert pauses(make(1.0), Failure("gone", sent=True), 0.3) == [0.1, 0.2]
    assert pauses(make(1.0), Reply(503, {"retry-after": "7"}), 7) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_cut_at_newlines_only(size: int) -> None:
    text = '{"a":"\u2028\x85"}\r\n\n{"b":1}\nrest'.encode()
    lines, got = Lines(), []
    for i in range(0, len(text), size):
        got += lines.feed(text[i : i + size])
    assert got + lines.end() == ['{"a":"\u2028\x85"}', "", '{"b":1}', "rest"]
    assert lines.end() == []
