"""The protocols that vendors speak: where to post, how to ask, how to listen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from typing import Protocol as Port

from ai_broker.adapters.vendors import anthropic_request, openai_request
from ai_broker.adapters.vendors.anthropic_stream import AnthropicStream
from ai_broker.adapters.vendors.openai_stream import OpenAIStream
from ai_broker.adapters.vendors.refusal import Fit
from ai_broker.domain.catalogue import Candidate, Protocol
from ai_broker.domain.quirks import Quirks
from ai_broker.domain.vendor import VendorEvent
from contracts.completions import CompletionRequest
from contracts.message import JsonObject


class Stream(Port):
    """One answer, event by event; knows nothing of connections."""

    ended: bool
    """Whether the end marker came."""

    def feed(self, data: bytes) -> list[VendorEvent]:
        """
        Read one event's data.

        Raises:
            NotTheProtocol: It is not what the protocol allows.
            VendorError: It reports an error.
        """
        ...

    def end(self) -> list[VendorEvent]:
        """Return ``Done``; nothing when the vendor never said why it stopped."""
        ...


@dataclass(frozen=True)
class Dialect:
    """One protocol."""

    path: str
    """Appended to a vendor's address."""
    models_path: str
    """The same, for the list of its models."""
    request_id_header: str
    """Where the vendor names its own id of a call."""
    body_of: Callable[[CompletionRequest, Candidate, Fit], JsonObject]
    stream_of: Callable[[str, Quirks], Stream]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def _openai_stream(vendor: str, quirks: Quirks) -> Stream:
    return OpenAIStream(vendor, reasoning_apart=quirks.counts_reasoning_apart)


def _anthropic_stream(vendor: str, _quirks: Quirks) -> Stream:
    return AnthropicStream(vendor)


DIALECTS: Final[Mapping[Protocol, Dialect]] = {
    Protocol.OPENAI: Dialect(
        path="/chat/completions",
        models_path="/models",
        request_id_header="x-request-id",
        body_of=openai_request.body_of,
        stream_of=_openai_stream,
    ),
    Protocol.ANTHROPIC: Dialect(
        path="/v1/messages",
        models_path="/v1/models",
        request_id_header="request-id",
        body_of=anthropic_request.body_of,
        stream_of=_anthropic_stream,
        # 2026-10-21, which the SDK sends, refuses sampling for every model.
        headers={"anthropic-version": "2023-06-01"},
    ),
}
