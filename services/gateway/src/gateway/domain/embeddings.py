"""OpenAI's embeddings: what is asked, and the list that answers it."""

import base64
import struct
from dataclasses import dataclass

from contracts.completions import Completion
from contracts.embeddings import (
    BYTES_PER_DIMENSION,
    DIMENSIONS_MAX,
    INPUTS_MAX,
    EmbeddingRequest,
)
from contracts.message import Json, JsonObject
from gateway.domain.fields import Fields, within
from gateway.domain.question import MODEL_CHARACTERS_MAX, USER_CHARACTERS_MAX, Asker

FLOAT = "float"
BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class EmbeddingsAsked:
    """A request in the canonical form, and how its vectors are wanted."""

    request: EmbeddingRequest
    is_base64: bool
    is_streamed: bool = False
    """Never: OpenAI's protocol has no stream of vectors."""


def read_embeddings(body: object, asker: Asker) -> EmbeddingsAsked:
    """
    Return what is asked.

    Args:
        body: The decoded JSON.
        asker: Who asks.

    Raises:
        Unfit: A field is wrong, unknown, or asks what cannot be done.
    """
    return within(Fields(body), lambda fields: _asked(fields, asker))


def embedding_list(completion: Completion, asked: EmbeddingsAsked) -> JsonObject:
    """Return the vectors in the order of their texts, and what they cost."""
    write = _base64 if asked.is_base64 else _numbers
    data: list[Json] = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(completion.vectors)
    ]
    used = completion.usage.total
    return {
        "object": "list",
        "data": data,
        "model": completion.model,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _asked(fields: Fields, asker: Asker) -> EmbeddingsAsked:
    request = EmbeddingRequest(
        completion_id=asker.completion_id,
        tenant=asker.tenant,
        api_key_id=asker.api_key_id,
        user=fields.text("user", USER_CHARACTERS_MAX),
        model=fields.need_text("model", MODEL_CHARACTERS_MAX),
        inputs=_inputs(fields),
        dimensions=fields.whole("dimensions", 1, DIMENSIONS_MAX),
        cache_ttl_s=asker.cache_ttl_s,
        deadline=asker.deadline(streamed=False),
    )
    form = fields.choice("encoding_format", FLOAT, BASE64)
    return EmbeddingsAsked(request, is_base64=form == BASE64)


def _inputs(fields: Fields) -> tuple[str, ...]:
    if isinstance(fields.peek("input"), str):
        found = (fields.need_text("input"),)
    else:
        items = fields.need("input", fields.items("input", INPUTS_MAX))
        found = tuple(each for each in items if isinstance(each, str))
        if len(found) != len(items):
            detail = "must be a string or a list of strings: tokens are not taken"
            raise fields.unfit("input", detail)
    if not found or not all(found):
        raise fields.unfit("input", "must not be empty, nor have empty strings")
    return found


def _base64(vector: bytes) -> Json:
    return base64.b64encode(vector).decode()


def _numbers(vector: bytes) -> Json:
    return list(struct.unpack(f"<{len(vector) // BYTES_PER_DIMENSION}f", vector))
