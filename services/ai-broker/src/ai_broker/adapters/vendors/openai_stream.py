"""
What a vendor that speaks chat completions says, chunk by chunk.

A usage snapshot is the last one that came: cumulative counts replace each other.
It counts the whole call when it has both totals and comes with or after the reason
to stop; vendors that count along the way are estimated if they are cut.
"""

from typing import Final

from ai_broker.adapters.vendors import failures
from ai_broker.adapters.vendors.fields import (
    NotTheProtocol,
    child,
    children,
    index,
    parsed,
    text,
)
from ai_broker.adapters.vendors.openai_usage import is_whole, usage_of
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Reasoning,
    Text,
    ToolCallPiece,
    UsageSeen,
    VendorError,
    VendorEvent,
)
from contracts.completions import FinishReason
from contracts.message import Json, JsonObject

FINISH: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,  # Zhipu
    "model_length": FinishReason.LENGTH,  # Mistral
}
STATUS: Final = {
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "invalid_request_error": 400,
}
END: Final = b"[DONE]"
_ERROR_STATUSES: Final = range(400, 600)


class OpenAIStream:
    """
    Reads chunks; numbers parts in the order in which they first appear.

    Args:
        vendor: Its name, for errors.
        reasoning_apart: Whether its output count leaves the reasoning out.
    """

    def __init__(self, vendor: str, *, reasoning_apart: bool = False) -> None:
        self.ended = False
        self._vendor = vendor
        self._reasoning_apart = reasoning_apart
        self._places: dict[str, int] = {}
        self._calls: dict[int, tuple[str, int]] = {}
        self._finish: FinishReason | None = None
        self._declined = False
        self._model = ""
        self._tier: str | None = None
        self._stop_sequence: str | None = None
        self._logprobs: dict[str, list[Json]] = {}

    def feed(self, data: bytes) -> list[VendorEvent]:
        """Read one event's data; NotTheProtocol and VendorError say what is wrong."""
        if data.startswith(b"[") and data.strip() == END:
            self.ended = True
            return []
        chunk = parsed(data, "a chunk")
        if chunk.get("error") is not None or chunk.get("object") == "error":
            raise self._error(chunk.get("error") or chunk)
        if chunk.get("model") != self._model:
            self._model = text(chunk, "model") or self._model
        if chunk.get("service_tier") != self._tier:
            self._tier = text(chunk, "service_tier") or self._tier
        said: list[VendorEvent] = []
        choices = children(chunk, "choices")
        for choice in choices:
            if not choice.get("index"):
                self._choice(choice, said)
        usage = chunk.get("usage")
        if not usage:
            usage = _hidden_usage(chunk, choices)
        if isinstance(usage, dict) and usage:
            final = is_whole(usage) and (self._finish is not None or not choices)
            counted = usage_of(usage, reasoning_apart=self._reasoning_apart)
            said.append(UsageSeen(counted, usage, final))
        return said

    def end(self) -> list[VendorEvent]:
        """Return the end; nothing when the vendor never said why it stopped."""
        if self._finish is None:
            return []
        finish = FinishReason.REFUSAL if self._declined else self._finish
        logprobs: Json = None
        if self._logprobs:
            logprobs = dict(self._logprobs)
        return [
            Done(finish, self._model, self._tier, logprobs, self._stop_sequence),
        ]

    def _choice(self, choice: JsonObject, said: list[VendorEvent]) -> None:
        delta = child(choice, "delta")
        for name in ("reasoning_content", "reasoning"):
            if delta.get(name):
                place = self._place("reasoning")
                said.append(Reasoning(place, text(delta, name)))
                break
        content = delta.get("content")
        if type(content) is list:
            self._blocks(children(delta, "content"), said)
        elif content:
            said.append(Text(self._place("text"), text(delta, "content")))
        if delta.get("refusal"):
            self._declined = True
            said.append(Declined(self._place("refusal"), text(delta, "refusal")))
        if delta.get("tool_calls"):
            said.extend(self._call(call) for call in children(delta, "tool_calls"))
        if choice.get("logprobs"):
            self._keep_logprobs(child(choice, "logprobs"))
        if choice.get("finish_reason"):
            self._stops(choice)

    def _stops(self, choice: JsonObject) -> None:
        finish = text(choice, "finish_reason")
        if finish == "error":
            raise self._error(choice.get("error") or "the answer ended in an error")
        self._finish = FINISH.get(finish, FinishReason.STOP)
        stopped_by = choice.get("stop_reason")  # vLLM: the text, or a token's id
        self._stop_sequence = stopped_by if isinstance(stopped_by, str) else None

    def _blocks(self, blocks: list[JsonObject], said: list[VendorEvent]) -> None:
        """Read content in blocks, as Mistral's reasoning models write it."""
        for block in blocks:
            match block.get("type"):
                case "text":
                    said.append(Text(self._place("text"), text(block, "text")))
                case "thinking":
                    said.extend(
                        Reasoning(self._place("reasoning"), text(each, "text"))
                        for each in children(block, "thinking")
                    )
                case kind:
                    message = f"a content block {kind!r}"
                    raise NotTheProtocol(message)

    def _call(self, call: JsonObject) -> ToolCallPiece:
        function = child(call, "function")
        at, call_id, name = index(call), text(call, "id"), text(function, "name")
        known = self._calls.get(at)
        # Some number every parallel call 0; a second id with a name tells them apart.
        is_new = known is None or (call_id and name and call_id != known[0])
        if known is None or is_new:
            place = self._place(f"call {len(self._places)}")
            self._calls[at] = known = (call_id, place)
        arguments = text(function, "arguments")
        return ToolCallPiece(known[1], call_id or None, name or None, arguments)

    def _keep_logprobs(self, logprobs: JsonObject) -> None:
        for kind in ("content", "refusal"):
            found = logprobs.get(kind)
            if isinstance(found, list):
                self._logprobs.setdefault(kind, []).extend(found)

    def _place(self, what: str) -> int:
        return self._places.setdefault(what, len(self._places))

    def _error(self, error: Json) -> VendorError:
        if not isinstance(error, dict):
            return failures.reported(self._vendor, None, "error", str(error))
        code = str(error.get("code") or error.get("type") or "error")
        status = STATUS.get(code) or STATUS.get(str(error.get("type")))
        if status is None and code.isdecimal() and int(code) in _ERROR_STATUSES:
            status = int(code)
        message = str(error.get("message") or "")
        return failures.reported(self._vendor, status, code, message)


def _hidden_usage(chunk: JsonObject, choices: list[JsonObject]) -> Json:
    """Return the usage where Moonshot and Groq put it."""
    for choice in choices:
        if choice.get("usage"):
            return choice["usage"]
    groq = chunk.get("x_groq")
    return groq.get("usage") if isinstance(groq, dict) else None
