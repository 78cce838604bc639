"""Embeddings in OpenAI's protocol: the request's body, and the answer read."""

import base64
import binascii
import math
import struct
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError

from ai_broker.adapters.vendors.openai_usage import usage_of
from ai_broker.domain import embedding
from ai_broker.domain.embedding import EmbeddingQuestion
from ai_broker.domain.vendor import Done, UsageSeen, Vectors, VendorEvent
from contracts.completions import FinishReason
from contracts.embeddings import BYTES_PER_DIMENSION, DIMENSIONS_MAX
from contracts.message import JsonObject


class Unreadable(Exception):
    """What came is no list of vectors; the text says why and quotes nothing."""


class _Row(BaseModel):
    index: int
    embedding: str | list[float]


class _Answer(BaseModel):
    data: list[_Row]
    model: str = ""
    usage: JsonObject | None = None


def body_of(question: EmbeddingQuestion, model: str) -> JsonObject:
    """Return the request's body; vectors are asked for as base64, a third the size."""
    body: JsonObject = {
        "model": model,
        "input": list(question.inputs),
        "encoding_format": "base64",
    }
    if question.dimensions is not None:
        body["dimensions"] = question.dimensions
    if question.user is not None:
        body["user"] = question.user
    return body


def events_of(content: bytes, count: int) -> Iterator[VendorEvent]:
    """
    Read an answer for so many texts.

    Raises:
        Unreadable: It is not one.
    """
    try:
        answer = _Answer.model_validate_json(content)
    except ValidationError as cause:
        raise Unreadable("no list of embeddings") from cause
    if answer.usage is not None:
        yield UsageSeen(usage_of(answer.usage), answer.usage, final=True)
    rows = {row.index: _packed(row.embedding) for row in answer.data}
    if len(answer.data) != count or rows.keys() != set(range(count)):
        raise Unreadable(f"{len(answer.data)} embeddings for {count} texts")
    vectors = tuple(rows[index] for index in range(count))
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1:
        raise Unreadable("embeddings of different lengths")
    if lengths.pop() > DIMENSIONS_MAX * BYTES_PER_DIMENSION:
        raise Unreadable(f"embeddings of more than {DIMENSIONS_MAX:,} dimensions")
    for first, some in embedding.batches(vectors):
        yield Vectors(first, some)
    yield Done(FinishReason.STOP, answer.model)


def _packed(vector: str | list[float]) -> bytes:
    """Return a vector as little-endian float32; some vendors send numbers anyway."""
    if isinstance(vector, list):
        if not vector or not all(map(math.isfinite, vector)):
            raise Unreadable("an embedding without numbers")
        try:
            return struct.pack(f"<{len(vector)}f", *vector)
        except OverflowError as cause:
            raise Unreadable("a number that is no float32") from cause
    try:
        packed = base64.b64decode(vector, validate=True)
    except binascii.Error as cause:
        raise Unreadable("an embedding that is not base64") from cause
    if not packed or len(packed) % BYTES_PER_DIMENSION:
        raise Unreadable("an embedding that is no float32 array")
    return packed
