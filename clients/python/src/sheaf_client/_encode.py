"""From what callers have to JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Union

Deadline = Union[datetime, timedelta]

# Datatypes by what numpy calls them.
_DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


def plain(value: Any) -> Any:
    """Makes what JSON can hold of an array: numpy's and its like (tolist), pandas', or any with the buffer protocol."""
    for method in ("tolist", "to_numpy"):
        convert = getattr(value, method, None)
        if callable(convert):
            got = convert()
            return got if method == "tolist" else plain(got)
    if isinstance(value, bytes):
        return value.decode("utf-8")  # an element of datatype BYTES
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    try:
        return memoryview(value).tolist()
    except TypeError:
        raise TypeError(f"expected numbers, strings, lists or arrays as input, got {type(value).__name__}") from None


def dumps(document: Any) -> bytes:
    """Encodes compactly. JSON has no NaN: it is an error here, not something that the server has to guess."""
    try:
        text = json.dumps(document, default=plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError as err:
        if "JSON compliant" not in str(err):
            raise
        raise ValueError("the input has NaN or infinity, which JSON cannot carry") from None
    return text.encode("utf-8")


def tensor(name: str, value: Any) -> dict[str, Any]:
    """Makes an input of the Open Inference Protocol of a named array, or of {"datatype", "shape", "data"}."""
    if isinstance(value, Mapping):
        return {"name": name, **value}
    dtype = str(getattr(value, "dtype", ""))
    datatype = _DATATYPES.get(dtype)
    if datatype is None and dtype.startswith(("object", "<U", "|S", ">U")):
        datatype = "BYTES"
    if datatype is None or not hasattr(value, "shape"):
        raise TypeError(
            f'input {name!r}: expected an array with shape and dtype, or {{"datatype": …, "shape": …, "data": …}}, '
            f"got {dtype or type(value).__name__}"
        )
    return {"name": name, "datatype": datatype, "shape": list(value.shape), "data": value}


def members(input: Any) -> dict[str, Any]:
    """Makes the members of a body that say what the model is given.

    A whole body, which has "input" or "inputs", is taken as it is. {name: array, …} and
    [{"name", "datatype", "shape", "data"}, …] are inputs by name. All else is the model's one input.
    """
    if isinstance(input, Mapping):
        if _is_body(input):
            return dict(input)
        return {"inputs": [tensor(str(name), value) for name, value in input.items()]}
    if _is_tensors(input):
        return {"inputs": list(input)}
    return {"input": input}


def _is_tensors(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(t, Mapping) for t in value)


def _is_body(value: Mapping[str, Any]) -> bool:
    if "inputs" in value:
        return _is_tensors(value["inputs"])
    others = {"input", "id", "lane", "outputs", "parameters", "webhook"}
    return "input" in value and not isinstance(value["input"], Mapping) and others.issuperset(value)


def body(
    input: Any,
    outputs: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    lane: str | None = None,
    webhook: str | None = None,
) -> bytes:
    document = members(input)
    if outputs is not None:
        document["outputs"] = [{"name": name} for name in outputs]
    if parameters is not None:
        document["parameters"] = dict(parameters)
    if lane is not None:
        document["lane"] = lane
    if webhook is not None:
        document["webhook"] = webhook
    return dumps(document)


def deadline(when: Deadline) -> str:
    """Makes the header Sheaf-Deadline of a moment, or of the time until then."""
    if isinstance(when, timedelta):
        when = datetime.now(timezone.utc) + when
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def nested(data: list[Any], shape: Sequence[int]) -> Any:
    """Nests flat data by its shape."""
    if not shape:
        return data[0] if data else None
    if len(shape) == 1:
        return data
    step = math.prod(shape[1:])
    return [nested(data[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
