"""
What carries a prepared body to a vendor and its answer back.

Two do: the vendors' official SDKs and a direct one. They fail in the same words, so
that one suite holds both to one behaviour; a setting chooses.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from ai_broker.domain.catalogue import Endpoint
from contracts.message import JsonObject

CONNECT_S: Final = 10.0
IDLE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long single steps of a call may take, in seconds."""

    connect_s: float = CONNECT_S
    idle_s: float = IDLE_S
    """Between two pieces of an answer."""


class Asked(StrEnum):
    """What a body asks for; each has its own address."""

    ANSWER = "answer"
    """A conversation's next turn, streamed."""
    VECTORS = "vectors"
    """Embeddings, all at once."""
    MODELS = "models"
    """Which models there are: no body is sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A vendor took a request: its status and headers, and its bytes as they come."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    chunks: AsyncIterator[bytes]
    losses: tuple[type[Exception], ...]
    """What reading may raise; outside of the call it is a ``VendorError``."""


class Transport(Protocol):
    """One vendor's connections."""

    def call(
        self,
        body: JsonObject,
        attempt_id: str,
        timeout_s: float,
        asked: Asked = Asked.ANSWER,
    ) -> AbstractAsyncContextManager[Reply]:
        """
        Ask once, without following redirects; a body is posted.

        Args:
            body: JSON as the vendor takes it.
            attempt_id: Sent along, so that both ledgers can be compared.
            timeout_s: The time left for the whole call.
            asked: Which of the vendor's endpoints it is for.

        Raises:
            VendorError: Another status than 2xx, or a connection that failed, also
                while the answer is read.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def credentials(endpoint: Endpoint) -> dict[str, str]:
    """Return the header that carries the key: both official SDKs send a bearer's."""
    if endpoint.entry.key_header is not None:
        return {endpoint.entry.key_header: endpoint.key}
    return {"authorization": f"Bearer {endpoint.key}"}
