"""
One client of the two front doors, and what came of each of its calls.

The prompts ask the sandbox to count, so that the whole answer is known in advance: a
call that ends *clean* has all of it, and a shorter one that looks clean is a cut that
was hidden.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import aiohttp

OPENAI: Final = "/v1/chat/completions"
ANTHROPIC: Final = "/v1/messages"
OK: Final = 200
LIMIT_S: Final = 60.0
TOKENS_MAX: Final = 400


class Door(StrEnum):
    """Whose protocol the client speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Ending(StrEnum):
    """How a call ended for its client."""

    WHOLE = "whole"
    """The whole answer, ended by its protocol."""
    STOPPED = "stopped"
    """Ended by its protocol for a stated reason: its length, a filter, emptiness."""
    REFUSED = "refused"
    """An error status with an error body."""
    BROKEN = "broken"
    """An error event inside the stream."""
    LEFT = "left"
    """The client hung up."""
    HIDDEN_CUT = "hidden cut"
    """It looked clean and was not whole: never allowed."""
    SILENT = "silent"
    """No end and no error: never allowed."""


@dataclass(frozen=True)
class Call:
    """One call to be made."""

    number: int
    door: Door
    model: str
    stream: bool
    count_to: int
    """How far the answer counts."""
    leave_after: int | None = None
    """Hang up after so many events; None stays."""
    service_tier: str | None = None
    """Asked for, if any."""

    @property
    def prompt(self) -> str:
        """Return what is asked."""
        return f"Call {self.number}: count to {self.count_to}"

    @property
    def answer(self) -> str:
        """Return what the sandbox answers to it."""
        return "[sandbox] " + " ".join(map(str, range(1, self.count_to + 1)))

    def body(self) -> dict[str, Any]:
        """Return the request in the door's protocol."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": TOKENS_MAX,
            "stream": self.stream,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if self.service_tier is not None:
            body["service_tier"] = self.service_tier
        return body


@dataclass(frozen=True)
class Outcome:
    """What a client saw."""

    call: Call
    ending: Ending
    status: int = 0
    error: str = ""


async def make(
    http: aiohttp.ClientSession, call: Call, headers: Mapping[str, str]
) -> Outcome:
    """Make a call and say how it ended."""
    path = OPENAI if call.door is Door.OPENAI else ANTHROPIC
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    try:
        async with http.post(
            path, json=call.body(), headers=headers, timeout=timeout
        ) as response:
            if response.status != OK:
                return _refused(call, response.status, await response.text())
            if not call.stream:
                return _whole(call, json.loads(await response.read()))
            return await _followed(call, response)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return Outcome(call, Ending.SILENT, error=repr(error))


def _refused(call: Call, status: int, text: str) -> Outcome:
    try:
        error = json.loads(text)["error"]
        what = f"{error.get('code') or error['type']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return Outcome(call, Ending.SILENT, status, f"no envelope: {text[:200]}")
    return Outcome(call, Ending.REFUSED, status, what)


# The protocols' JSON, read as loosely as a client would.
def _whole(call: Call, body: Any) -> Outcome:
    if call.door is Door.OPENAI:
        (choice,) = body["choices"]
        text, reason = choice["message"]["content"] or "", choice["finish_reason"]
    else:
        text = "".join(block.get("text", "") for block in body["content"])
        reason = body["stop_reason"]
    return _ended(call, text, reason)


async def _followed(call: Call, response: aiohttp.ClientResponse) -> Outcome:
    text, reason, is_ended, seen = "", None, False, 0
    async with aclosing(_events(response)) as events:
        async for event in events:
            seen += 1
            if event == "[DONE]":
                is_ended = True
                break
            body = json.loads(event)
            if "error" in body:
                return Outcome(call, Ending.BROKEN, OK, body["error"]["message"])
            if call.door is Door.OPENAI:
                for choice in body["choices"]:
                    text += choice["delta"].get("content") or ""
                    reason = choice["finish_reason"] or reason
            else:
                delta = body.get("delta", {})
                text += delta.get("text", "")
                reason = delta.get("stop_reason") or reason
                is_ended = is_ended or body["type"] == "message_stop"
            if call.leave_after is not None and seen >= call.leave_after:
                response.close()
                return Outcome(call, Ending.LEFT)
    if not is_ended:
        return Outcome(call, Ending.SILENT, OK, f"no end after {seen} events")
    return _ended(call, text, reason)


def _ended(call: Call, text: str, reason: str | None) -> Outcome:
    """Tell a whole answer from one that stopped for a reason, and from a hidden cut."""
    if text == call.answer and reason in ("stop", "end_turn"):
        return Outcome(call, Ending.WHOLE, OK)
    if reason in ("length", "max_tokens", "content_filter", "refusal") or not text:
        return Outcome(call, Ending.STOPPED, OK, str(reason))
    return Outcome(call, Ending.HIDDEN_CUT, OK, f"{reason}: {text[-60:]!r}")


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[str]:
    async for line in _lines(response.content):
        if line.startswith(b"data:"):
            yield line[5:].strip().decode()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    while line := await content.readline():
        yield line
