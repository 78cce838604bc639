"""What a compatible endpoint was asked, and by whom."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.ids import derived_id

ID_PREFIX: Final = "cmpl"
TURNS_MAX: Final = 10_000
PARTS_MAX: Final = 2_000
TOOLS_MAX: Final = 128
MODEL_CHARACTERS_MAX: Final = 200
USER_CHARACTERS_MAX: Final = 256
TOKENS_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, under which id, and how long they wait."""

    tenant: str
    api_key_id: str
    completion_id: str
    now: datetime
    streamed_s: float
    """How long a streamed answer may take."""
    whole_s: float
    """How long an answer in one piece may take."""
    drop_unsupported: bool = False
    """Whether the vendor may be spared what it has no place for."""
    cache_ttl_s: int | None = None
    """How old another request's equal answer may be; None takes none."""
    tools_max: int = TOOLS_MAX

    def deadline(self, *, streamed: bool) -> datetime:
        """Return when the asker gives up."""
        return self.now + timedelta(
            seconds=self.streamed_s if streamed else self.whole_s
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A request in the canonical form, and how its answer is wanted."""

    request: CompletionRequest
    is_streamed: bool
    wants_usage: bool = True
    """Whether a stream ends with the counts."""


class Asked(Protocol):
    """What every door reads: a request, and how its answer is wanted."""

    @property
    def request(self) -> CompletionRequest | EmbeddingRequest:
        """What ai-broker is asked."""
        ...

    @property
    def is_streamed(self) -> bool:
        """Whether the answer shall come in pieces."""
        ...


def completion_id_for(tenant: str, idempotency_key: str) -> str:
    """Return the completion id that belongs to a tenant's idempotency key."""
    return derived_id(ID_PREFIX, tenant, idempotency_key)


def bare_id(completion_id: str) -> str:
    """Return the id without its prefix, to be given a vendor's."""
    return completion_id.removeprefix(f"{ID_PREFIX}_")
