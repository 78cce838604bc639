"""``/v1/models``, in the form of whichever SDK asks."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request

from contracts.message import JsonObject
from contracts.problems import Code
from gateway.domain import model_list
from gateway.entrypoints.dialect import COUNT_TOKENS, Dialect, dialect_of
from gateway.entrypoints.identity import DepsOf, TenantOf
from gateway.handlers import owners
from messaging.refusals import refuse

routes = APIRouter(tags=["ai"])

Version = Annotated[
    str | None, Header(description="With it, the answer has Anthropic's form")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Anthropic's form only")]
Cursor = Annotated[str | None, Query(max_length=200)]


@routes.get("/v1/models")
async def list_models(
    request: Request,
    tenant: TenantOf,
    deps: DepsOf,
    limit: Limit = 20,
    after_id: Cursor = None,
    before_id: Cursor = None,
    anthropic_version: Version = None,  # noqa: ARG001 -- documents what dialect_of reads
) -> JsonObject:
    """List the models and aliases that a completion or an employee may name."""
    page = await owners.list_models(tenant, deps)
    if dialect_of(request.scope) is Dialect.ANTHROPIC:
        found = model_list.anthropic_models(page.models, limit, after_id, before_id)
    else:
        found = model_list.openai_models(page.models)
    return found


@routes.get("/v1/models/{model_id:path}")
async def get_model(
    model_id: str,
    request: Request,
    tenant: TenantOf,
    deps: DepsOf,
    anthropic_version: Version = None,  # noqa: ARG001 -- documents what dialect_of reads
) -> JsonObject:
    """Return one of them; an id may be ``vendor/model``."""
    page = await owners.list_models(tenant, deps)
    for model in page.models:
        if model.id == model_id:
            if dialect_of(request.scope) is Dialect.ANTHROPIC:
                return model_list.anthropic_model(model)
            return model_list.openai_model(model)
    detail = f"no model {model_id!r} here: GET /v1/models lists them"
    raise refuse(Code.MODEL_UNKNOWN, detail)


@routes.post(COUNT_TOKENS)
async def count_tokens(_tenant: TenantOf) -> dict[str, Any]:
    """
    Refuse to count: only the vendor that will answer has the right tokenizer.

    Every answer's ``usage`` has the counts that the vendor reported.
    """
    detail = (
        "counting tokens beforehand is not offered: only the vendor's own tokenizer "
        "counts right, and which vendor answers is decided later; read usage instead"
    )
    raise refuse(Code.NOT_FOUND, detail)
