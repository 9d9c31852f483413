"""Predictions from a Sheaf server."""

from ._async import AsyncClient, AsyncJob
from ._core import VERSION
from ._errors import SheafError, SheafTimeoutError, WebhookError
from ._sync import Client, Job
from ._types import JobState, Model, Prediction, TensorSpec, Ticket
from ._webhook import WebhookEvent, verify_webhook

__version__ = VERSION

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Job",
    "JobState",
    "Model",
    "Prediction",
    "SheafError",
    "SheafTimeoutError",
    "TensorSpec",
    "Ticket",
    "WebhookError",
    "WebhookEvent",
    "__version__",
    "verify_webhook",
]
