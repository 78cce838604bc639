"""
Whose words an answer is in: ours, OpenAI's or Anthropic's.

The compatible paths speak their vendor's language from the first refusal on: a wrong
key, a body that is too large and a bug come in the envelope that the SDK reads.
"""

from collections.abc import MutableMapping
from enum import StrEnum
from typing import Any, Final

import telemetry

# ASGI's scopes are mappings of anything.
Scope = MutableMapping[str, Any]

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
MODELS: Final = "/v1/models"
VERSION: Final = b"anthropic-version"


class Dialect(StrEnum):
    """The form of errors and lists."""

    OURS = "ours"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


def dialect_of(scope: Scope) -> Dialect:
    """Return the dialect of a request, by its path and headers."""
    path: str = scope["path"]
    if path in (CHAT, EMBEDDINGS):
        return Dialect.OPENAI
    if path in (MESSAGES, COUNT_TOKENS):
        return Dialect.ANTHROPIC
    if path == MODELS or path.startswith(f"{MODELS}/"):
        names = (name for name, _ in scope["headers"])
        return Dialect.ANTHROPIC if VERSION in names else Dialect.OPENAI
    return Dialect.OURS


def request_id() -> str | None:
    """Return what a caller may quote: the trace's id, as vendors write ids."""
    trace_id = telemetry.trace_id()
    return None if trace_id is None else f"req_{trace_id}"
