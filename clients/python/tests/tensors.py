"""Rows of every datatype, as Triton's clients take them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

ROWS: dict[str, Any] = {
    "bool": np.array([[True, False, True]]),
    "int8": np.array([[-128, 0, 127]], np.int8),
    "int16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "int32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "uint8": np.array([[0, 1, 255]], np.uint8),
    "uint16": np.array([[0, 1, 2**16 - 1]], np.uint16),
    "uint32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "uint64": np.array([[0, 1, 2**64 - 1]], np.uint64),
    "fp16": np.array([[0.5, -2.0, 65504.0]], np.float16),
    "bf16": np.array([[0.5, -2.0, 256.0]], ml_dtypes.bfloat16),
    "fp32": np.array([[0.1, -2.0, 3e38]], np.float32),
    "fp64": np.array([[0.1, -2.0, 1e308]], np.float64),
    "bytes": np.array([["a", "zwölf", ""]], np.object_),
}


def texts(array: Any) -> Any:
    return np.vectorize(lambda x: x.decode() if isinstance(x, bytes) else x, otypes=[object])(array)
