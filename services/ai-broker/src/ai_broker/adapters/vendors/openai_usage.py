"""
Chat completions' counts as a partition.

The details are parts of the totals, and are cut down to them where they exceed
them, so that the sum of the partition is always the sum that the vendor bills.
Compatible vendors name the cached part in four ways; Google's output count leaves
the reasoning out, which its total has.
"""

from typing import Final

from ai_broker.adapters.vendors.fields import count
from contracts.message import Json, JsonObject
from contracts.usage import TokenUsage

_CACHED: Final = (
    ("prompt_tokens_details", "cached_tokens"),  # OpenAI, Zhipu, Qwen, Ark, Groq
    (None, "prompt_cache_hit_tokens"),  # DeepSeek
    (None, "cached_tokens"),  # Moonshot
)
_WRITTEN: Final = (
    ("prompt_tokens_details", "cache_write_tokens"),  # OpenAI, OpenRouter
    ("prompt_tokens_details", "cache_creation_input_tokens"),  # Qwen
)


def is_whole(raw: JsonObject) -> bool:
    """Tell whether counts cover input and output; zeros do, absent ones do not."""
    return None not in (count(raw, "prompt_tokens"), count(raw, "completion_tokens"))


def usage_of(raw: JsonObject, *, reasoning_apart: bool = False) -> TokenUsage:
    """
    Return the counts as a partition.

    Args:
        raw: The vendor's ``usage``.
        reasoning_apart: Whether the output count leaves the reasoning out.
    """
    prompt = raw.get("prompt_tokens_details")
    output = raw.get("completion_tokens_details")
    rest_in = count(raw, "prompt_tokens") or 0
    rest_out = count(raw, "completion_tokens") or 0
    if reasoning_apart:
        rest_out = max((count(raw, "total_tokens") or 0) - rest_in, rest_out)
        thought = rest_out - (count(raw, "completion_tokens") or 0)
    else:
        thought = min(count(output, "reasoning_tokens") or 0, rest_out)
    rest_out -= thought
    cached = min(_first(raw, _CACHED), rest_in)
    rest_in -= cached
    written = min(_first(raw, _WRITTEN), rest_in)
    rest_in -= written
    audio_in = min(count(prompt, "audio_tokens") or 0, rest_in)
    audio_out = min(count(output, "audio_tokens") or 0, rest_out)
    return TokenUsage(
        input_tokens=rest_in - audio_in,
        cache_read_tokens=cached,
        cache_write_5m_tokens=written,
        input_audio_tokens=audio_in,
        output_tokens=rest_out - audio_out,
        reasoning_tokens=thought,
        output_audio_tokens=audio_out,
    )


def _first(raw: JsonObject, places: tuple[tuple[str | None, str], ...]) -> int:
    for outer, name in places:
        source: Json = raw if outer is None else raw.get(outer)
        found = count(source, name)
        if found is not None:
            return found
    return 0
