"""What the handlers need of one AI vendor."""

from collections.abc import AsyncGenerator
from typing import Protocol

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.vendor import Prepared, VendorEvent
from contracts.completions import CompletionRequest
from contracts.message import JsonObject


class Vendor(Protocol):
    """One vendor that answers completions."""

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """
        Return the request in the vendor's own form.

        Raises:
            PermanentFault: The vendor cannot do what a field asks; it names it.
        """
        ...

    def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """
        Call the vendor once and yield what it says, ``Done`` last.

        Args:
            body: What ``prepare`` made.
            attempt_id: Sent along, so that both ledgers can be compared.
            timeout_s: The time left for the whole call.

        Raises:
            VendorError: The call failed; how is in its ``failure``.
        """
        ...

    def models(self, check_id: str, timeout_s: float) -> AsyncGenerator[VendorEvent]:
        """
        Ask which models there are; yields ``Started`` once a list has come.

        It costs nothing, and most vendors want the key for it.

        Args:
            check_id: Sent along.
            timeout_s: The time for the whole call.

        Raises:
            VendorError: The call failed; how is in its ``failure``.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class EmbeddingVendor(Vendor, Protocol):
    """One vendor that also turns texts into vectors; ``prepare`` takes both."""

    def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """
        Ask for vectors once, as ``complete`` asks for an answer.

        Raises:
            VendorError: The call failed; how is in its ``failure``.
        """
        ...
