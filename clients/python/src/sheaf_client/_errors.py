"""What can go wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})

# Answers that say that the same request may succeed later.
_PASSING = frozenset({408, 429, 502, 503, 504})


class SheafError(Exception):
    """A request that was refused, a job that has failed, or a server that does not answer.

    status       the HTTP status; None if there was no answer
    code         what to switch on: the last part of the problem's type, such as "unknown-model" or "invalid";
                 "unreachable", "timeout" or "cut-off" if there was no whole answer
    detail       what is wrong, in words
    field        where in the request, such as "inputs[0].shape"
    retry_after  seconds after which it makes sense to try again
    job_id       the job that it is about
    problem      the whole problem document (RFC 9457)
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        detail: str,
        field: str | None = None,
        retry_after: float | None = None,
        job_id: str | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, code, detail, field, retry_after, job_id, problem)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.job_id = job_id
        self.problem: Mapping[str, Any] = problem or {}

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        status = f" (HTTP {self.status})" if self.status else ""
        return f"{self.code}: {where}{self.detail}{status}"

    @property
    def unavailable(self) -> bool:
        """Whether the service is at fault, or the way to it, and not the request: what a fallback is for."""
        return self.status is None or self.status >= 500 or self.status in _PASSING

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        if self.problem.get("job_status") in TERMINAL:
            return False  # the job has ended, and the same request gets the same answer
        return self.status is None or self.status in _PASSING

    @property
    def refused(self) -> bool:
        """Whether it is certain that nothing was accepted, so that even a request without a key may be repeated."""
        return self.status == 429 or self.code in ("busy", "full", "overloaded", "too-many-waiters")


class SheafTimeoutError(SheafError, TimeoutError):
    """The time that the caller gave was over. A job that was submitted goes on, unless it has no Idempotency-Key."""


class WebhookError(SheafError):
    """A webhook that is not what the server signed, or is too old."""

    def __init__(self, detail: str) -> None:
        super().__init__(None, "webhook", detail)

    def __reduce__(self) -> Any:
        return type(self), (self.detail,)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> SheafError:
    """Makes the error of an answer that is none."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    error = of_problem(problem, status)
    error.retry_after = retry_after(headers)
    if not error.detail:
        error.detail = body[:200].decode("utf-8", "replace").strip() or "the server did not say why"
    return error


def of_problem(problem: Mapping[str, Any], status: int | None = None, job_id: str | None = None) -> SheafError:
    """Makes the error of a problem document."""
    if status is None and isinstance(problem.get("status"), int):
        status = problem["status"]
    code = str(problem.get("type", "")).rstrip("/").rpartition("/")[2]
    return SheafError(
        status,
        code if code and code != "about:blank" else f"http-{status}",
        str(problem.get("detail") or problem.get("title") or ""),
        problem.get("field"),
        None,
        problem.get("id") or job_id,
        problem,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Reads Retry-After: seconds, or a date."""
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        now = parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (when - now).total_seconds())
    except (TypeError, ValueError, IndexError):
        return None
