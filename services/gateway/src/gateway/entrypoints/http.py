"""The HTTP application, and what must answer before the gateway is ready."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from contracts.budgets import Budget
from contracts.employees import Employee
from contracts.events import Trigger
from gateway.entrypoints import (
    budgets,
    models,
    owners,
    problems,
    tasks,
    tenants,
    vendors,
)
from gateway.entrypoints.door_document import door_paths, door_schemas
from gateway.entrypoints.doors import Bounds, Door, DoorRoute
from gateway.entrypoints.middleware import LimitBody, Observe
from gateway.entrypoints.tongues import TONGUES
from gateway.ports import Deps
from persistence.database import Database

DESCRIPTION = """
Run LLM agents as employees: hand a goal to one, follow it, see what it cost.

Errors are RFC 9457 problem details. Send a key as `Authorization: Bearer …`.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What callers may send and hold at once."""

    feeds_max: int
    body_bytes_max: int
    ai_body_bytes_max: int
    """On the compatible endpoints, whose bodies carry images."""
    completions_max: int
    doors: Bounds


def create_app(deps: Deps, limits: Limits) -> FastAPI:
    """Build the application on these dependencies."""
    app = FastAPI(
        title="Digital Employee", version="1", description=DESCRIPTION.strip()
    )
    app.state.deps = deps
    app.state.feed_slots = asyncio.Semaphore(limits.feeds_max)
    problems.install(app)
    app.include_router(tasks.routes)
    app.include_router(owners.routes)
    app.include_router(budgets.routes)
    app.include_router(tenants.routes)
    app.include_router(vendors.routes)
    app.include_router(models.routes)
    slots = asyncio.Semaphore(limits.completions_max)
    for path, tongue in TONGUES.items():
        door = Door(tongue, limits.doors, slots)
        # First of all: each route that is looked at before costs every call.
        app.router.routes.insert(0, DoorRoute(path, door, methods=["POST"]))
    # The last one added is the outermost.
    app.add_middleware(
        LimitBody,
        bytes_max=limits.body_bytes_max,
        special=dict.fromkeys(TONGUES, limits.ai_body_bytes_max),
    )
    app.add_middleware(Observe, clock=deps.clock)
    _document_the_rest(app)
    return app


def checks(database: Database) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Return the readiness checks: its own store, never another service."""
    return {"store": database.check}


def _document_the_rest(app: FastAPI) -> None:
    # Employees and triggers are read by a dependency that takes YAML too, and the
    # doors are bare ASGI, so FastAPI does not see them; they are added here.
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _, schemas = models_json_schema(
            [(Employee, "validation"), (Trigger, "validation"), (Budget, "validation")],
            ref_template="#/components/schemas/{model}",
        )
        known = document["components"]["schemas"]
        for name, schema in (schemas.get("$defs", {}) | door_schemas()).items():
            known.setdefault(name, schema)
        document["paths"].update(door_paths())
        return document

    app.openapi = openapi
