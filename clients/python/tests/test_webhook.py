"""Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from sheaf_client import SheafError, WebhookError, verify_webhook

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a good secret").decode()
OTHER = "whsec_" + base64.b64encode(b"another").decode()
EVENT = {"type": "job.succeeded", "timestamp": "2026-11-23T04:00:00Z",
         "data": {"id": "j", "status": "succeeded",
                  "outputs": [{"name": "y", "shape": [2, 1], "data": [1, 2]}]}}  # fmt: skip
BODY = json.dumps(EVENT).encode()


def sign(secret: str = SECRET, body: bytes = BODY, stamp: Any = None, msg_id: str = "msg_1") -> dict[str, str]:
    stamp = int(time.time()) if stamp is None else stamp
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{msg_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Webhook-Id": msg_id,
        "Webhook-Timestamp": str(stamp),
        "Webhook-Signature": "v1," + base64.b64encode(mac).decode(),
    }


def test_the_example_of_the_specification() -> None:
    """The test vector that the libraries of Standard Webhooks have in common."""
    headers = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
               "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}  # fmt: skip
    with pytest.raises(WebhookError, match="not one of a job"):  # so the signature is right
        verify_webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, '{"test": 2432232314}', tolerance=1e12)


def test_a_good_one() -> None:
    event = verify_webhook(SECRET, sign(), BODY)
    assert (event.id, event.type, event.job.id, event.job.status) == ("msg_1", "job.succeeded", "j", "succeeded")
    assert event.job.result() == [[1], [2]]
    assert event.raw == EVENT
    assert verify_webhook(SECRET, sign(), BODY.decode()).id == "msg_1"


def test_secrets_that_are_being_rotated() -> None:
    assert verify_webhook([OTHER, SECRET], sign(), BODY).id == "msg_1"
    two = sign()
    two["Webhook-Signature"] = "v1a,xx v1,!!! " + sign(OTHER)["Webhook-Signature"] + " " + two["Webhook-Signature"]
    assert verify_webhook(SECRET, two, BODY).id == "msg_1"


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        (sign(OTHER), BODY, "no signature"),
        (sign(), BODY + b" ", "no signature"),
        ({**sign(), "Webhook-Id": "msg_2"}, BODY, "no signature"),
        ({**sign(), "Webhook-Signature": ""}, BODY, "no signature"),
        ({**sign(), "Webhook-Timestamp": str(int(time.time()) + 1)}, BODY, "no signature"),
        (sign(stamp=int(time.time()) - 400), BODY, "too old"),
        (sign(stamp=int(time.time()) + 400), BODY, "too old"),
        (sign(stamp="now"), BODY, "too old"),
        (sign(stamp="²"), BODY, "too old"),
        ({"webhook-id": "x"}, BODY, "webhook-timestamp is missing"),
        (sign(body=b"[]"), b"[]", "not one of a job"),
    ],
)
def test_what_must_not_be_believed(headers: dict[str, str], body: bytes, why: str) -> None:
    with pytest.raises(WebhookError, match=why) as caught:
        verify_webhook(SECRET, headers, body)
    assert isinstance(caught.value, SheafError)


def test_what_is_no_secret() -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook("whsec_~", sign(), BODY)
