"""Embeddings beside a vendor's conversations, over the same transport."""

from collections.abc import AsyncGenerator
from typing import Final, cast

from ai_broker.adapters.vendors import openai_embeddings as protocol
from ai_broker.adapters.vendors.failures import malformed
from ai_broker.adapters.vendors.transport import Asked, Transport
from ai_broker.domain.catalogue import Candidate, Endpoint
from ai_broker.domain.embedding import EmbeddingQuestion
from ai_broker.domain.vendor import Prepared, Started, VendorEvent
from ai_broker.ports.vendors import Vendor
from contracts.completions import CompletionRequest
from contracts.message import Json, JsonObject
from faults import PermanentFault

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
"""2 048 vectors of 4 096 dimensions as numbers of 30 characters."""


class OpenAIEmbedder:
    """
    Asks a vendor that speaks OpenAI's protocol for embeddings.

    Args:
        endpoint: Who it is.
        transport: Its connections, closed by whoever shares them.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        self._name = endpoint.entry.name
        self._transport = transport

    async def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Ask once; the whole answer is read before the first vector is told."""
        content = bytearray()
        asked = Asked.VECTORS
        async with self._transport.call(body, attempt_id, timeout_s, asked) as reply:
            request_id = reply.headers.get("x-request-id")
            yield Started(reply.status, request_id, reply.headers)
            async for some in reply.chunks:
                content += some
                if len(content) > ANSWER_BYTES_MAX:
                    raise malformed(self._name, "more than any embeddings are")
        # cast: ``body_of`` put a list there.
        inputs = cast("list[Json]", body["input"])
        try:
            for event in protocol.events_of(bytes(content), len(inputs)):
                yield event
        except protocol.Unreadable as cause:
            raise malformed(self._name, cause) from cause


class WithEmbeddings:
    """
    A vendor's conversations and, where its protocol has them, its embeddings.

    Args:
        vendor: The conversations, over whichever transport.
        embedder: The embeddings; None where there are none, which ``prepare`` says.
    """

    def __init__(self, vendor: Vendor, embedder: OpenAIEmbedder | None) -> None:
        self._vendor = vendor
        self._embedder = embedder

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return the request in the vendor's own form."""
        if not isinstance(request, EmbeddingQuestion):
            return self._vendor.prepare(request, candidate)
        if self._embedder is None:
            hint = "ask a model of a vendor that has embeddings, see /v1/models"
            message = f"embeddings: {candidate.vendor} cannot do this; {hint}"
            raise PermanentFault(message)
        return Prepared(protocol.body_of(request, candidate.model))

    def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Call the vendor once."""
        return self._vendor.complete(body, attempt_id, timeout_s)

    def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Ask for vectors once."""
        if self._embedder is None:
            raise PermanentFault("embed: this vendor has no embeddings")
        return self._embedder.embed(body, attempt_id, timeout_s)

    def models(self, check_id: str, timeout_s: float) -> AsyncGenerator[VendorEvent]:
        """Ask which models there are."""
        return self._vendor.models(check_id, timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._vendor.close()
