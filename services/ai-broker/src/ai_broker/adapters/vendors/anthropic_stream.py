"""
What a vendor that speaks the messages API says, event by event.

Counts are cumulative: what a later event names replaces what an earlier one named.
Input, cache reads and cache writes are one measurement, so they are taken together
from the last event that counts the cache: lookalikes put the whole prompt into
``message_start`` and its true split into ``message_delta``, or the other way round.
"""

from typing import Final

import orjson

from ai_broker.adapters.vendors import failures
from ai_broker.adapters.vendors.fields import child, count, index, parsed, text
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Reasoning,
    Text,
    ToolCallPiece,
    UsageSeen,
    VendorEvent,
)
from contracts.completions import FinishReason
from contracts.message import JsonObject
from contracts.usage import TokenUsage

STOP: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}
STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CACHE_COUNTS: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")
_INPUT_COUNTS: Final = frozenset({"input_tokens", "cache_creation", *_CACHE_COUNTS})


class AnthropicStream:
    """
    Reads events; numbers parts in the order in which they first appear.

    Args:
        vendor: Its name, for errors.
    """

    def __init__(self, vendor: str) -> None:
        self.ended = False
        self._vendor = vendor
        self._places: dict[int, int] = {}
        self._arguments: dict[int, str] = {}
        self._model = ""
        self._usage: JsonObject = {}
        self._stop: str = ""
        self._stop_sequence: str | None = None

    def feed(self, data: bytes) -> list[VendorEvent]:
        """Read one event's data; NotTheProtocol and VendorError say what is wrong."""
        event = parsed(data, "an event")
        match event.get("type"):
            case "content_block_delta":
                return self._delta(index(event), child(event, "delta"))
            case "message_start":
                head = child(event, "message")
                self._model = text(head, "model")
                return self._count(child(head, "usage"), final=False)
            case "content_block_start":
                return self._start(index(event), child(event, "content_block"))
            case "content_block_stop":
                whole = self._arguments.pop(index(event), "")
                place = self._place(index(event)) if whole else 0
                return [ToolCallPiece(place, arguments=whole)] if whole else []
            case "message_delta":
                return self._message_delta(event)
            case "message_stop":
                self.ended = True
            case "error":
                error = child(event, "error")
                code = text(error, "type") or "error"
                status, message = STATUS.get(code), text(error, "message")
                raise failures.reported(self._vendor, status, code, message)
            case _:
                pass  # pings, and what is not yet known
        return []

    def end(self) -> list[VendorEvent]:
        """Return the end; nothing when the vendor never said why it stopped."""
        if not self._stop:
            return []
        finish = STOP.get(self._stop, FinishReason.STOP)
        tier = text(self._usage, "service_tier") or None
        stopped_by = self._stop_sequence
        return [Done(finish, self._model, tier, stop_sequence=stopped_by)]

    def _message_delta(self, event: JsonObject) -> list[VendorEvent]:
        delta = child(event, "delta")
        self._stop = text(delta, "stop_reason") or self._stop
        self._stop_sequence = text(delta, "stop_sequence") or self._stop_sequence
        said: list[VendorEvent] = []
        explained = text(child(delta, "stop_details"), "explanation")
        if explained:
            said.append(Declined(len(self._places), explained))
        return said + self._count(child(event, "usage"), final=True)

    def _start(self, at: int, block: JsonObject) -> list[VendorEvent]:
        match block.get("type"):
            case "text" if block.get("text"):
                return [Text(self._place(at), text(block, "text"))]
            case "thinking" if block.get("thinking") or block.get("signature"):
                signature = text(block, "signature") or None
                return [Reasoning(self._place(at), text(block, "thinking"), signature)]
            case "redacted_thinking":
                return [Reasoning(self._place(at), redacted=text(block, "data"))]
            case "tool_use":
                # What holds unless pieces follow; without arguments none do.
                self._arguments[at] = orjson.dumps(child(block, "input")).decode()
                call_id, name = text(block, "id"), text(block, "name")
                return [ToolCallPiece(self._place(at), call_id or None, name or None)]
            case _:
                return []

    def _delta(self, at: int, delta: JsonObject) -> list[VendorEvent]:
        match delta.get("type"):
            case "text_delta" if delta.get("text"):
                return [Text(self._place(at), text(delta, "text"))]
            case "thinking_delta" if delta.get("thinking"):
                return [Reasoning(self._place(at), text(delta, "thinking"))]
            case "signature_delta" if delta.get("signature"):
                signature = text(delta, "signature")
                return [Reasoning(self._place(at), signature=signature)]
            case "input_json_delta" if delta.get("partial_json"):
                self._arguments.pop(at, None)
                arguments = text(delta, "partial_json")
                return [ToolCallPiece(self._place(at), arguments=arguments)]
            case _:
                return []  # citations, and what is not yet known

    def _count(self, usage: JsonObject, *, final: bool) -> list[VendorEvent]:
        if not usage:
            return []
        told = {name: value for name, value in usage.items() if value is not None}
        if any(name in self._usage for name in _CACHE_COUNTS) and not any(
            name in told for name in _CACHE_COUNTS
        ):
            told = {name: told[name] for name in told if name not in _INPUT_COUNTS}
        self._usage = self._usage | told
        # Without a count of its own of the output it does not cover the call.
        whole = final and count(usage, "output_tokens") is not None
        whole = whole and count(self._usage, "input_tokens") is not None
        return [UsageSeen(usage_of(self._usage), self._usage, whole)]

    def _place(self, at: int) -> int:
        return self._places.setdefault(at, len(self._places))


def usage_of(raw: JsonObject) -> TokenUsage:
    """
    Return Anthropic's counts as a partition.

    Its input excludes what the cache read or wrote; its output includes thinking.
    """
    written = count(raw, "cache_creation_input_tokens") or 0
    creation = raw.get("cache_creation")
    hour = min(count(creation, "ephemeral_1h_input_tokens") or 0, written)
    output = count(raw, "output_tokens") or 0
    details = raw.get("output_tokens_details")
    thought = min(count(details, "thinking_tokens") or 0, output)
    return TokenUsage(
        input_tokens=count(raw, "input_tokens") or 0,
        cache_read_tokens=count(raw, "cache_read_input_tokens") or 0,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        output_tokens=output - thought,
        reasoning_tokens=thought,
    )
