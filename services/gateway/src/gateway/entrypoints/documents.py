"""Bodies that people write: JSON, or YAML when the content type says so."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import yaml
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from contracts.problems import Code
from gateway.domain.extent import excess_of
from messaging.refusals import refuse

D = TypeVar("D", bound=BaseModel)


def document_of(model: type[D]) -> Callable[[Request], Awaitable[D]]:
    """Return a dependency that reads the body as this model."""

    async def read(request: Request) -> D:
        body = await request.body()
        try:
            if "yaml" in request.headers.get("content-type", ""):
                return model.model_validate(_bounded(_yaml(body)))
            return model.model_validate(json_of(body))
        except ValidationError as cause:
            raise RequestValidationError(cause.errors()) from cause

    return read


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI extra that documents such a body."""
    content = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    kinds = ("application/json", "application/yaml")
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, content)}}


class _PlainLoader(yaml.SafeLoader):
    """Without aliases, which could make a small document enormous."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            message = "YAML aliases (*name) are not taken: write the value out"
            raise refuse(Code.INVALID, message)
        return super().compose_node(parent, index)


def _yaml(body: bytes) -> object:
    try:
        return yaml.load(body, _PlainLoader)  # noqa: S506 -- a SafeLoader
    # ValueError: a number of thousands of digits, a 30th of February, no UTF-8.
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        first_line = str(cause).partition("\n")[0]
        raise refuse(Code.INVALID, f"the body is not YAML: {first_line}") from cause


def json_of(body: bytes) -> object:
    """
    Return a body's JSON, which every reader on the way can hold.

    Raises:
        messaging.refusals.Refused: ``invalid``.
    """
    try:
        return _bounded(from_json(body, allow_inf_nan=False))
    except ValueError as cause:
        detail = f"the body: is not JSON in UTF-8: {cause}"
        raise refuse(Code.INVALID, detail) from cause


def _bounded(document: object) -> object:
    if (excess := excess_of(document)) is not None:
        raise refuse(Code.INVALID, f"the body: {excess}")
    return document
