"""Embeddings beside a vendor's conversations, by the official SDK."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final, cast

from ai_broker.adapters.vendors import openai_embeddings as protocol
from ai_broker.adapters.vendors.refusal import unsupported
from ai_broker.adapters.vendors.sdk import Lazy, Patience, lower, malformed, translated
from ai_broker.domain.catalogue import Candidate, Endpoint
from ai_broker.domain.embedding import EmbeddingQuestion
from ai_broker.domain.vendor import Prepared, Started, VendorEvent
from ai_broker.ports import Vendor
from contracts.completions import CompletionRequest
from contracts.message import JsonObject
from faults import PermanentFault

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
"""2 048 vectors of 4 096 dimensions as numbers of 30 characters."""


class OpenAIEmbedder:
    """
    Asks a vendor that speaks OpenAI's protocol for embeddings.

    Args:
        endpoint: Where it is, and its key.
        patience: Limits of single steps.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._name = endpoint.entry.name
        self._endpoint = endpoint
        self._patience = patience
        self._client = Lazy("openai", self._make)

    async def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Ask once; the whole answer is read before the first vector is told."""
        client = await self._client.get()
        import httpx2  # noqa: PLC0415 -- comes with the SDK, and as lazily

        timeout = httpx2.Timeout(
            min(self._patience.idle_s, timeout_s), connect=self._patience.connect_s
        )
        content = bytearray()
        # Any: the body was built by its own rules; the SDK only carries it.
        fields = cast("Any", body)
        with translated(self._name, "openai"):
            async with client.embeddings.with_streaming_response.create(
                **fields,
                extra_headers={"X-Client-Request-Id": attempt_id},
                timeout=timeout,
            ) as response:
                headers = lower(response.headers)
                yield Started(response.status_code, headers.get("x-request-id"))
                async for some in response.iter_bytes():
                    content += some
                    if len(content) > ANSWER_BYTES_MAX:
                        raise malformed(self._name, "more than any embeddings are")
        inputs = fields["input"]
        try:
            for event in protocol.events_of(bytes(content), len(inputs)):
                yield event
        except protocol.Unreadable as cause:
            raise malformed(self._name, str(cause)) from cause

    async def close(self) -> None:
        """Close the connections."""
        if self._client.made is not None:
            await self._client.made.close()

    def _make(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI  # noqa: PLC0415 -- costs a second of CPU

        return AsyncOpenAI(
            api_key=self._endpoint.key,
            base_url=self._endpoint.base_url,
            max_retries=0,
        )


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
            raise unsupported(candidate.vendor, "embeddings", hint)
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

    async def close(self) -> None:
        """Close the connections."""
        await self._vendor.close()
        if self._embedder is not None:
            await self._embedder.close()
