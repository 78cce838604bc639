"""What the tests of the compatible endpoints ask, and what ai-broker says."""

from typing import Any

import httpx
import pytest
from gateway_world import OPENED, Headers, finished

from contracts.frames import Failed, TextDelta
from contracts.problems import Code, ErrorEnvelope, problem
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
