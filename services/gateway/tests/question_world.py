"""Who asks in the tests of the translators, and what."""

from datetime import UTC, datetime
from typing import Any

from contracts.usage import TokenUsage
from gateway.domain.anthropic_request import read_anthropic
from gateway.domain.openai_request import read_openai
from gateway.domain.question import Asker, Question

ASKER = Asker(
    tenant="acme",
    api_key_id="k1",
    completion_id="cmpl_1",
    now=datetime(2026, 11, 23, 12, tzinfo=UTC),
    streamed_s=600,
    whole_s=60,
)
USER = {"role": "user", "content": "Hi"}
USAGE = TokenUsage(
    input_tokens=1,
    cache_read_tokens=2,
    cache_write_5m_tokens=4,
    cache_write_1h_tokens=8,
    input_audio_tokens=16,
    output_tokens=32,
    reasoning_tokens=64,
    output_audio_tokens=128,
)


def openai_question(**fields: Any) -> Question:
    """Return a question in OpenAI's words."""
    return read_openai({"model": "smart", "messages": [USER]} | fields, ASKER)


def anthropic_question() -> Question:
    """Return a question in Anthropic's words."""
    body = {"model": "smart", "max_tokens": 9, "messages": [USER], "stream": True}
    return read_anthropic(body, ASKER)
