"""
Write what the platform says of itself: docs/openapi.json and docs/asyncapi.json.

Both come from the wired services, composed but not opened, so they cannot drift
from the code.

    ./just docs            # write both
    ./just docs --check    # end with 1 when a file is not what would be written
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from fastapi import FastAPI
from sqlalchemy import MetaData
from subject_pages import asyncapi

import agent_runtime.app
import agent_runtime.settings
import ai_broker.app
import ai_broker.settings
import billing_meter.app
import billing_meter.settings
import gateway.app
import gateway.settings
import orchestrator.app
import orchestrator.settings
from contracts.subjects import Service
from determinism import SeededIds, SystemClock
from messaging.runner import connect_bus
from messaging.settings import ServiceSettings
from messaging.subscriptions import Runnable
from nats_bootstrap.reconcile import Outward, Reconciler
from nats_bootstrap.settings import Settings as BootstrapSettings
from nats_bootstrap.users import System, UsersFile
from persistence.inline import InlineDatabase

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs"
INSTANCE: Final = "instance"

C = TypeVar("C")


def main() -> int:
    """Write the documents, or compare them; 1 when they differ."""
    app, runnables = wire()
    wanted = {
        FOLDER / "openapi.json": encode(app.openapi()),
        FOLDER / "asyncapi.json": encode(asyncapi(runnables)),
    }
    if "--check" not in sys.argv[1:]:
        FOLDER.mkdir(exist_ok=True)
        for path, text in wanted.items():
            path.write_text(text)
            print(path.relative_to(ROOT))
        return 0
    stale = [
        path.relative_to(ROOT)
        for path, text in wanted.items()
        if not path.is_file() or path.read_text() != text
    ]
    for path in stale:
        print(f"{path} is not what the code says: run ./just docs", file=sys.stderr)
    return 1 if stale else 0


def encode(document: dict[str, Any]) -> str:
    """Return JSON that is the same for the same content."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def wire() -> tuple[FastAPI, list[Runnable]]:
    """Compose every service on an empty store and a bus that is never opened."""
    face = _composed(Service.GATEWAY, gateway.app.compose, gateway.settings.Settings)
    others = (
        _composed(
            Service.ORCHESTRATOR,
            orchestrator.app.compose,
            orchestrator.settings.Settings,
        ),
        _composed(
            Service.AGENT_RUNTIME,
            agent_runtime.app.compose,
            agent_runtime.settings.Settings,
        ),
        _composed(
            Service.AI_BROKER, ai_broker.app.compose, ai_broker.settings.Settings
        ),
        _composed(
            Service.BILLING_METER,
            billing_meter.app.compose,
            billing_meter.settings.Settings,
        ),
    )
    runnables = [face.runnable, *(each.runnable for each in others), _bootstrap()]
    return face.app, runnables


def _composed(
    service: Service, compose: Callable[..., C], settings: type[ServiceSettings]
) -> C:
    clock, ids = SystemClock(), SeededIds(0)
    given = settings(database_url="sqlite://", instance=INSTANCE)
    return compose(
        settings=given,
        database=InlineDatabase.create(MetaData()),
        bus=connect_bus(service, given, clock=clock, ids=ids),
        clock=clock,
        ids=ids,
    )


def _bootstrap() -> Runnable:
    clock, unused = SystemClock(), Path("unused")
    given = BootstrapSettings(include_path=unused, instance=INSTANCE)
    outward = Outward(
        bus=connect_bus(Service.BOOTSTRAP, given, clock=clock),
        system=System(given.nats_url, None),
        users=UsersFile(unused),
        clock=clock,
    )
    return Reconciler(outward).runnable()


if __name__ == "__main__":
    sys.exit(main())
