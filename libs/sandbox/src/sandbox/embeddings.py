"""
Embeddings computed from the text: hashed words and their parts, normalised.

Each word, and each run of three letters in it, is hashed to a place of the vector and a
sign. Texts that share words or parts of words are therefore near, others about
perpendicular, and the same text always has the same vector. A list of tokens is taken
as words that are numbers.
"""

import base64
import hashlib
import math
import re
from array import array
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sandbox import tokens
from sandbox.payload import (
    Failure,
    FailureKind,
    Json,
    JsonObject,
    RequestRefused,
    bad_request,
    text_of,
)
from sandbox.wire import Usage

DIMENSIONS: Final = {"sandbox-embedding-small": 256, "sandbox-embedding-large": 1024}
MODELS: Final = tuple(DIMENSIONS)
INPUTS_MAX: Final = 2048
TOKENS_MAX: Final = 8192
_KNOWN: Final = {"input", "model", "dimensions", "encoding_format", "user"}
_PART_CHARS: Final = 3
_PART_WEIGHT: Final = 0.3


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts to embed; ``dimensions`` is the length of each vector."""

    model: str
    texts: tuple[str, ...]
    tokens: int
    dimensions: int
    as_base64: bool


def parse_request(body: JsonObject) -> EmbeddingRequest:
    """
    Read a request.

    Raises:
        RequestRefused: A field is missing, unknown or malformed, or a text too long.
    """
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        message = f"Unrecognized request argument supplied: {unknown[0]}"
        raise bad_request(message, unknown[0])
    model, form = text_of(body.get("model")), body.get("encoding_format", "float")
    _require_model(model)
    if form not in ("float", "base64"):
        message = "Invalid 'encoding_format': use float or base64."
        raise bad_request(message, "encoding_format")
    most = DIMENSIONS[model]
    asked = body.get("dimensions", most)
    if not isinstance(asked, int) or not 1 <= asked <= most:
        message = f"Invalid 'dimensions': {model} has 1 to {most}."
        raise bad_request(message, "dimensions")
    inputs = _inputs(body.get("input"))
    counts = [_count(each) for each in inputs]
    if max(counts) > TOKENS_MAX:
        message = (
            f"This model's maximum context length is {TOKENS_MAX} tokens, however you "
            f"requested {max(counts)} tokens. Please reduce your prompt."
        )
        raise RequestRefused(Failure(FailureKind.CONTEXT_EXCEEDED, message, "input"))
    texts = tuple(
        each if isinstance(each, str) else " ".join(map(str, each)) for each in inputs
    )
    return EmbeddingRequest(model, texts, sum(counts), asked, form == "base64")


def render(asked: EmbeddingRequest, told: Usage | None) -> JsonObject:
    """Write the list of vectors, and the usage unless none is told."""
    data: list[Json] = [
        {"object": "embedding", "index": index, "embedding": _written(asked, text)}
        for index, text in enumerate(asked.texts)
    ]
    body: JsonObject = {"object": "list", "data": data, "model": asked.model}
    if told is not None:
        used = told.input_tokens
        body["usage"] = {"prompt_tokens": used, "total_tokens": used}
    return body


def embed(text: str, dimensions: int) -> list[float]:
    """Return the text's vector, of length 1."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        for feature, weight in _features(word):
            vector[feature // 2 % dimensions] += weight if feature % 2 else -weight
    size = math.sqrt(math.fsum(each * each for each in vector))
    if not size:
        # Features that cancel each other out leave no direction: take one.
        vector[0] = size = 1.0
    return [each / size for each in vector]


@lru_cache(maxsize=65_536)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Return the hashes of a word and of its parts, with their weights."""
    padded = f"<{word}>"
    parts = [
        padded[at : at + _PART_CHARS] for at in range(len(padded) - _PART_CHARS + 1)
    ]
    weighed = [(f"={word}", 1.0), *((part, _PART_WEIGHT) for part in parts)]
    return tuple((_hash(feature), weight) for feature, weight in weighed)


def _hash(feature: str) -> int:
    digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _written(asked: EmbeddingRequest, text: str) -> Json:
    vector = embed(text, asked.dimensions)
    if not asked.as_base64:
        numbers: list[Json] = list(vector)
        return numbers
    # Little-endian float32, as every machine that runs this has it.
    return base64.b64encode(array("f", vector).tobytes()).decode()


def _inputs(value: Json) -> list[str | list[int]]:
    """Take a text, a list of texts, a list of tokens, or a list of such lists."""
    if isinstance(value, str):
        found: list[str | list[int]] = [value]
    elif isinstance(value, list) and value and all(_is_token(v) for v in value):
        found = [_tokens(value)]
    elif isinstance(value, list):
        found = [v if isinstance(v, str) else _tokens(v) for v in value]
    else:
        found = []
    if not found or len(found) > INPUTS_MAX or not all(found):
        message = (
            "Invalid 'input': give a non-empty text, up to "
            f"{INPUTS_MAX} of them, or tokens as whole numbers."
        )
        raise bad_request(message, "input")
    return found


def _tokens(value: Json) -> list[int]:
    """Return the tokens of a list, none for anything else."""
    if not isinstance(value, list):
        return []
    numbers = [each for each in value if isinstance(each, int) and _is_token(each)]
    return numbers if len(numbers) == len(value) else []


def _is_token(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(given: str | list[int]) -> int:
    return tokens.count(given) if isinstance(given, str) else len(given)


def _require_model(model: str) -> None:
    if not model:
        message = "you must provide a model parameter"
        raise bad_request(message, "model")
    if model not in DIMENSIONS:
        message = (
            f"The model `{model}` does not exist or you do not have access to it. The "
            f"sandbox embeds with: {', '.join(MODELS)}."
        )
        raise RequestRefused(Failure(FailureKind.NO_MODEL, message, "model"))
