"""What the client gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._encode import nested
from ._errors import TERMINAL, SheafError, of_problem


@dataclass(frozen=True)
class Prediction:
    """The answer of predict.

    source says where it comes from: "model"; "last_known", an earlier answer; or "fallback", the value that the caller
    gave. error is why it is not the model's.
    """

    prediction: Any
    id: str | None = None
    model: str | None = None
    model_version: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    source: str = "model"
    error: SheafError | None = None


@dataclass(frozen=True)
class Ticket:
    """What became of one line of a bulk submit: id is the accepted job's, error says why it was refused."""

    index: int
    id: str | None = None
    status: str | None = None
    request_id: str | None = None
    error: SheafError | None = None


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model; -1 in shape varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """What has been announced of a model; raw is all of it."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batchable: bool
    max_rows: int
    versions: tuple[str, ...] = ()
    description: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


def model_of(raw: Mapping[str, Any]) -> Model:
    def specs(key: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(s["name"], s["datatype"], tuple(s["shape"])) for s in raw.get(key) or ())

    return Model(
        name=raw["name"],
        version=raw["version"],
        inputs=specs("inputs"),
        outputs=specs("outputs"),
        batchable=bool(raw.get("batchable")),
        max_rows=int(raw.get("max_rows", 0)),
        versions=tuple(raw.get("versions") or ()),
        description=raw.get("description", ""),
        raw=raw,
    )


class JobState:
    """A job as the server last told it; raw is all that it said."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw: dict[str, Any] = dict(raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def id(self) -> str:
        return str(self.raw["id"])

    @property
    def status(self) -> str:
        """queued, running, succeeded, failed, canceled or expired; unknown if there is no such job."""
        return str(self.raw.get("status", "unknown"))

    @property
    def finished(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL

    @property
    def model(self) -> str | None:
        return self.raw.get("model")

    @property
    def model_version(self) -> str | None:
        return self.raw.get("model_version")

    @property
    def position(self) -> int | None:
        """How many jobs are before it."""
        return self.raw.get("position")

    @property
    def eta(self) -> float | None:
        """Seconds until it is expected to be finished."""
        ms = self.raw.get("eta_ms")
        return None if ms is None else ms / 1000

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs as sent: name, datatype, shape, data."""
        return list(self.raw.get("outputs", ()))

    @property
    def timings(self) -> Mapping[str, float]:
        return dict(self.raw.get("timings", {}))

    @property
    def error(self) -> SheafError | None:
        """Why it did not succeed."""
        problem = self.raw.get("error")
        return of_problem(problem, job_id=self.id) if problem is not None else None

    def result(self, output: str | None = None) -> Any:
        """The data of an output, or of the first, nested by its shape. Raises the job's error if it has one."""
        if self.error is not None:
            raise self.error
        if not self.finished:
            raise SheafError(None, "unfinished", f"the job is {self.status}: wait for it first", job_id=self.id)
        for tensor in self.outputs:
            if output is None or tensor["name"] == output:
                data = tensor["data"]
                flat = not (data and isinstance(data[0], list))
                return nested(data, tensor["shape"]) if flat else data
        raise KeyError(output)
