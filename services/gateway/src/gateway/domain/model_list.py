"""
The catalogue in either vendor's form.

Nobody knows when a model was made, so its time is the epoch, as Anthropic writes
for unknown ones. Beside the vendors' fields stands what a model is here.
"""

from collections.abc import Sequence
from typing import Final

from contracts.message import JsonObject
from contracts.models import ModelInfo

EPOCH: Final = "1970-01-01T00:00:00Z"


def openai_model(model: ModelInfo) -> JsonObject:
    """Return one model as OpenAI lists it."""
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": model.vendor,
        "vendor_model": model.model,
        "is_alias": model.is_alias,
    }


def openai_models(models: Sequence[ModelInfo]) -> JsonObject:
    """Return the list in OpenAI's form."""
    return {"object": "list", "data": [openai_model(each) for each in models]}


def anthropic_model(model: ModelInfo) -> JsonObject:
    """Return one model as Anthropic lists it."""
    return {
        "id": model.id,
        "type": "model",
        "display_name": model.id if model.is_alias else model.model,
        "created_at": EPOCH,
        "lifecycle": "active",
    }


def anthropic_models(
    models: Sequence[ModelInfo], limit: int, after: str | None, before: str | None
) -> JsonObject:
    """
    Return a page in Anthropic's form.

    Args:
        models: All, by id.
        limit: How many at most.
        after: Begin behind this id.
        before: End before this id; then the last ones of those are the page.
    """
    ids = [each.id for each in models]
    start = ids.index(after) + 1 if after in ids else 0
    stop = ids.index(before) if before in ids else len(ids)
    found = models[start:stop]
    page = found[-limit:] if before is not None else found[:limit]
    return {
        "data": [anthropic_model(each) for each in page],
        "has_more": len(found) > len(page),
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }
