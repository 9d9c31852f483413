"""What both drivers have in common: from steps to httpx and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from ._steps import Call, Failure, Reply, Timeouts

# Errors of httpx from before the request was on its way.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def request_of(base: str, call: Call) -> dict[str, Any]:
    """Gives the arguments of httpx's build_request."""
    return {
        "method": call.method,
        "url": base + call.path,
        "headers": dict(call.headers),
        "content": call.body,
        "extensions": {"timeout": Timeouts(call)},
    }


def reply_of(response: httpx.Response, body: bytes = b"") -> Reply:
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body)


def check(call: Call) -> None:
    """Ends an answer that comes, but too slowly."""
    if call.until.left() <= 0:
        raise Failure("the answer did not come in time", sent=True, slow=True)


def failure_of(error: httpx.HTTPError) -> Failure:
    slow = isinstance(error, httpx.TimeoutException)
    what = str(error) or type(error).__name__
    return Failure(what, sent=not isinstance(error, _UNSENT), slow=slow)
