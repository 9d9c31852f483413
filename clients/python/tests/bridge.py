"""The asynchronous client, called as if it were the blocking one: each test is one for both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

from sheaf_client import AsyncClient, AsyncJob


class Bridge:
    """Runs what an object returns."""

    def __init__(self, of: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._of, self._loop = of, loop

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._of, name)
        if not callable(member):
            return member

        def call(*args: Any, **kwargs: Any) -> Any:
            out = member(*(a._of if isinstance(a, Bridge) else a for a in args), **kwargs)
            if inspect.isasyncgen(out):
                return self._each(out)
            if inspect.iscoroutine(out):
                out = self._loop.run_until_complete(out)
            return self._wrap(out)

        return call

    def _each(self, values: Any) -> Iterator[Any]:
        try:
            while (value := self._loop.run_until_complete(anext(values, self))) is not self:
                yield self._wrap(value)
        finally:
            self._loop.run_until_complete(values.aclose())

    def _wrap(self, value: Any) -> Any:
        return Bridge(value, self._loop) if isinstance(value, (AsyncJob, AsyncClient)) else value
