"""
Texts to vectors, in a form that every vendor's protocol maps onto.

The answer comes in frames, as a completion's does: ``VectorsDelta`` with the vectors
a few at a time, since all of them may be larger than one message, then ``Finished``
without them. A vector is little-endian float32, four bytes a dimension.
"""

from typing import Annotated, Final

from pydantic import Field

from contracts.ids import (
    CompletionId,
    EmployeeName,
    Name,
    StepId,
    TaskId,
    TenantId,
    Token,
)
from contracts.message import Instant, Message

INPUTS_MAX: Final = 2_048
DIMENSIONS_MAX: Final = 16_384
BYTES_PER_DIMENSION: Final = 4
FRAME_VECTOR_BYTES_MAX: Final = 192 * 1024
"""Vectors in one frame, before base64; one vector alone is always fewer."""


class EmbeddingRequest(Message):
    """Ask for vectors; the same ``completion_id`` asks for the same ones."""

    completion_id: CompletionId
    """Unique per tenant, completions' ids among them."""
    tenant: TenantId
    """Who pays."""
    task_id: TaskId | None = None
    """The task, when an employee asks."""
    step_id: StepId | None = None
    """The task's step."""
    employee: EmployeeName | None = None
    """Who asks."""
    user: str | None = Field(default=None, max_length=256)
    """The caller's end user."""
    team: Name | None = None
    """The team that the caller or the employee belongs to; budgets can be its own."""
    api_key_id: Token | None = None
    """The API key that the request came in by."""
    model: str = Field(min_length=1, max_length=200)
    """An alias or ``vendor/model``."""
    inputs: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, max_length=INPUTS_MAX
    )
    """The texts; each gets one vector, in this order."""
    dimensions: int | None = Field(default=None, ge=1, le=DIMENSIONS_MAX)
    """How long the vectors should be, where the model has a choice."""
    cache_ttl_s: int | None = Field(default=None, ge=1, le=30 * 86_400)
    """Take an equal question's answer if it is not older; None always asks."""
    deadline: Instant
    """Give up at this time."""
