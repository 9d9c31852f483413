"""Answers that are kept for when there are no new ones."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ._types import Prediction


class Memory:
    """The last answers, by key. The one that was used longest ago makes room."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Prediction] = OrderedDict()

    def put(self, key: str, prediction: Prediction) -> None:
        with self._lock:
            self._kept[key] = prediction
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)

    def get(self, key: str) -> Prediction | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)
