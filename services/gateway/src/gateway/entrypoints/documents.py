"""Bodies that people write: JSON, or YAML when the content type says so."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import yaml
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from contracts.problems import Code
from messaging.refusals import refuse

D = TypeVar("D", bound=BaseModel)


def document_of(model: type[D]) -> Callable[[Request], Awaitable[D]]:
    """Return a dependency that reads the body as this model."""

    async def read(request: Request) -> D:
        body = await request.body()
        try:
            if "yaml" in request.headers.get("content-type", ""):
                return model.model_validate(_yaml(body))
            return model.model_validate_json(body)
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
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as cause:
        first_line = str(cause).splitlines()[0]
        raise refuse(Code.INVALID, f"the body is not YAML: {first_line}") from cause
