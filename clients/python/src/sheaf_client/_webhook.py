"""Webhooks, as Standard Webhooks signs them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ._errors import WebhookError
from ._types import JobState


@dataclass(frozen=True)
class WebhookEvent:
    """A job that is finished. id is the same in each repetition of the same webhook: handle it once."""

    id: str
    type: str
    timestamp: str
    job: JobState
    raw: Mapping[str, Any]


def verify_webhook(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes | str,
    tolerance: float | timedelta = 300,
) -> WebhookEvent:
    """Checks the signature and the age of a webhook and reads it; WebhookError if it must not be believed.

    body has to be what was received, byte for byte. secret may be several, while one replaces another. tolerance is in
    seconds, for a webhook that is replayed late and for clocks that differ.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        msg_id, stamp, signatures = (given["webhook-" + part] for part in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise WebhookError(f"the header {missing.args[0]} is missing") from None
    if isinstance(tolerance, timedelta):
        tolerance = tolerance.total_seconds()
    if not (stamp.isascii() and stamp.isdigit() and abs(time.time() - int(stamp)) <= tolerance):
        raise WebhookError("the timestamp is too old, or from a clock that is wrong")
    payload = body.encode("utf-8") if isinstance(body, str) else bytes(body)
    signed = f"{msg_id}.{stamp}.".encode() + payload
    secrets = [secret] if isinstance(secret, str) else secret
    expected = [hmac.new(_key(s), signed, hashlib.sha256).digest() for s in secrets]
    matches = [hmac.compare_digest(want, got) for got in map(_signature, signatures.split()) for want in expected]
    if not any(matches):
        raise WebhookError("no signature is right: is it the tenant's secret, and the body unchanged?")
    try:
        raw = json.loads(payload)
        return WebhookEvent(msg_id, str(raw["type"]), str(raw["timestamp"]), JobState(raw["data"]), raw)
    except (ValueError, KeyError, TypeError):
        raise WebhookError("the signature is right, but the body is not one of a job") from None


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret[6:] if secret.startswith("whsec_") else secret, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the secret is not one of a webhook: expected whsec_ and base64") from None


def _signature(text: str) -> bytes:
    version, _, value = text.partition(",")
    if version != "v1":
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
