"""
Log probabilities: the sandbox is certain of each of its tokens.

A rule has no second choice, so that every token has probability 1 (a logarithm of 0)
and its alternatives the -9999 that OpenAI writes for what it did not consider.
"""

from typing import Final

from sandbox import tokens
from sandbox.payload import Json, JsonObject

NEVER: Final = -9999.0


def logprobs(text: str, alternatives: int) -> JsonObject:
    """Write ``logprobs`` of a text: four bytes are a token, also within characters."""
    data, size = text.encode(), tokens.BYTES_PER_TOKEN
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    content: list[Json] = []
    for part in parts:
        others: list[Json] = [_token(part, 0.0)]
        others += [_token(b"%d" % number, NEVER) for number in range(1, alternatives)]
        content.append({**_token(part, 0.0), "top_logprobs": others[:alternatives]})
    return {"content": content, "refusal": None}


def _token(part: bytes, logprob: float) -> JsonObject:
    shown: list[Json] = list(part)
    text = part.decode(errors="replace")
    return {"token": text, "logprob": logprob, "bytes": shown}
