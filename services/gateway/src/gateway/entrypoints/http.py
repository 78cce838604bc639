"""The HTTP application, and what must answer before the gateway is ready."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from contracts.employees import Employee
from contracts.events import Trigger
from gateway.entrypoints import owners, problems, tasks, tenants
from gateway.entrypoints.middleware import LimitBody, Observe
from gateway.ports import Deps
from persistence.database import Database

DESCRIPTION = """
Run LLM agents as employees: hand a goal to one, follow it, see what it cost.

Errors are RFC 9457 problem details. Send a key as `Authorization: Bearer …`.
"""


def create_app(deps: Deps, *, feeds_max: int, body_bytes_max: int) -> FastAPI:
    """Build the application on these dependencies."""
    app = FastAPI(
        title="Digital Employee", version="1", description=DESCRIPTION.strip()
    )
    app.state.deps = deps
    app.state.feed_slots = asyncio.Semaphore(feeds_max)
    problems.install(app)
    app.include_router(tasks.routes)
    app.include_router(owners.routes)
    app.include_router(tenants.routes)
    # The last one added is the outermost.
    app.add_middleware(LimitBody, bytes_max=body_bytes_max)
    app.add_middleware(Observe, clock=deps.clock)
    _document_written_bodies(app)
    return app


def checks(database: Database) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Return the readiness checks: its own store, never another service."""
    return {"store": database.check}


def _document_written_bodies(app: FastAPI) -> None:
    # Employees and triggers are read by a dependency that takes YAML too, so
    # FastAPI does not see their models; their schemas are added here.
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _, schemas = models_json_schema(
            [(Employee, "validation"), (Trigger, "validation")],
            ref_template="#/components/schemas/{model}",
        )
        known = document["components"]["schemas"]
        for name, schema in schemas.get("$defs", {}).items():
            known.setdefault(name, schema)
        return document

    app.openapi = openapi
