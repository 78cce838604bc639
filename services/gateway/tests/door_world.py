"""What the tests of the compatible endpoints ask, and what ai-broker says."""

from typing import Any

import httpx
import pytest
from gateway_world import OPENED, Headers, finished

from contracts.frames import Failed, Opened, TextDelta
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.rates import Measure, RateStanding
from faults import TransientFault

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
TEXT = {"kind": "text", "text": "Hello"}
BODY: dict[str, Any] = {
    "model": "smart",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
HELLO = (OPENED, TextDelta(part=0, text="Hello"), finished(TEXT))
RATES = (
    RateStanding(
        policy="api-key-requests",
        measure=Measure.REQUESTS,
        limit=60,
        left=59,
        resets_in_s=0.2,
    ),
    RateStanding(
        policy="tenant-tokens",
        measure=Measure.TOKENS,
        limit=9_000,
        left=20,
        resets_in_s=59.5,
    ),
    RateStanding(policy="user-concurrent", measure=Measure.CONCURRENT, limit=8, left=7),
)
RATED = Opened(completion_id="cmpl_1", instance="broker_1", rates=RATES)
POLICY = (
    '"api-key-requests";q=60;w=60, "tenant-tokens";q=9000;qu="tokens";w=60, '
    '"user-concurrent";q=8;qu="concurrent-requests"'
)
CUT = TransientFault("the stream was cut", code=Code.STREAM_CUT)
BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])


async def ask(
    client: httpx.AsyncClient, path: str, headers: Headers, **fields: Any
) -> httpx.Response:
    """Ask one of the doors."""
    return await client.post(path, json=BODY | fields, headers=headers)


def error_of(path: str, answer: httpx.Response) -> dict[str, Any]:
    """Return the vendor's error object; its envelope must be the vendor's."""
    body = answer.json()
    if path == CHAT:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
    else:
        assert body["type"] == "error"
        assert set(body) == {"type", "error", "request_id"}
    return body["error"]


def failed(
    code: Code, *, retryable: bool = False, after_s: float | None = None
) -> Failed:
    """Return an end without an answer."""
    return Failed(
        error=ErrorEnvelope(
            problem=problem(code, "why"), retryable=retryable, retry_after_s=after_s
        )
    )
