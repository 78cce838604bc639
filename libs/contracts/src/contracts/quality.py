"""What can be said of an answer without reading it as a person would."""

from pydantic import Field

from contracts.message import Message


class QualitySignals(Message):
    """
    Cheap signals of one answer; None where a signal does not apply or is unsure.

    They are about form. Whether an answer is right, a judge or a person says.
    """

    truncated: bool = False
    """It ended at a limit of length."""
    refused: bool = False
    """The vendor declined or filtered it."""
    empty: bool = False
    """It has neither text nor a tool call."""
    schema_valid: bool | None = None
    """Whether it is JSON that fits the schema asked for."""
    arguments_valid: bool | None = None
    """Whether every tool call names a tool of the request and fits its schema."""
    repetition: float | None = Field(default=None, ge=0, le=1)
    """How much of its last 8 KiB repeats: 1 less its compressed share."""
    language_mismatch: bool | None = None
    """Whether it is in another script than the question."""
