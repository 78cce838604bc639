"""``dectl event publish``: what any system with a NATS client can do."""

import asyncio
import json
from typing import Annotated, Final, cast

import nats
import nats.errors
import typer

from cli.client import (
    OUT,
    AsJson,
    Json,
    Target,
    fail,
    find_target,
    print_json,
    read_argument,
)
from determinism import SystemIds

app = typer.Typer(no_args_is_help=True, help="Publish events as another system would.")

LIMIT_S: Final = 5.0


@app.command("publish")
def publish_event(
    event_type: Annotated[str, typer.Argument(help="invoice.received")],
    data: Annotated[
        str, typer.Option(help="JSON or a whole CloudEvent; @file, - for stdin")
    ],
    *,
    event_id: Annotated[
        str | None, typer.Option("--id", help="The same id starts nothing twice")
    ] = None,
    source: Annotated[str, typer.Option(help="Who says so")] = "dectl",
    as_json: AsJson = False,
) -> None:
    """Publish a CloudEvent on NATS with the tenant's own credentials."""
    target = find_target()
    if "nats_user" not in target.endpoints:
        fail("no NATS credentials: this needs the platform that ./just up started")
    content = read_argument(data)
    if isinstance(content, dict) and "specversion" in content:
        event = cast("Json", content)
        chosen_id = event_id or str(event.get("id", ""))
        content = {**event, "id": chosen_id}
        headers = {"content-type": "application/cloudevents+json"}
    else:
        chosen_id = event_id or SystemIds().new("event")
        headers = {
            "ce-specversion": "1.0",
            "ce-id": chosen_id,
            "ce-source": source,
            "ce-type": event_type,
            "content-type": "application/json",
        }
    subject = f"events.{target.endpoints['tenant']}.{event_type}"
    body = json.dumps(content).encode()
    asyncio.run(_publish(target, subject, body, headers))
    if as_json:
        print_json({"subject": subject, "id": chosen_id})
    else:
        OUT.print(f"published {subject} [dim]{chosen_id}[/]", highlight=False)


async def _publish(
    target: Target, subject: str, body: bytes, headers: dict[str, str]
) -> None:
    endpoints = target.endpoints
    try:
        connection = await nats.connect(  # pyright: ignore[reportUnknownMemberType]
            endpoints["nats"],
            user=endpoints["nats_user"],
            password=endpoints["nats_password"],
            inbox_prefix=endpoints["nats_inbox_prefix"].encode(),
            connect_timeout=LIMIT_S,
            allow_reconnect=False,
        )
    except (OSError, nats.errors.Error) as cause:
        fail(f"connect to {endpoints['nats']}: {cause!r}")
    try:
        # nats-py types its options loosely.
        jetstream = connection.jetstream()  # pyright: ignore[reportUnknownMemberType]
        await jetstream.publish(subject, body, headers=headers, timeout=LIMIT_S)
    except (nats.errors.Error, TimeoutError) as cause:
        fail(f"publish {subject}: {cause!r}")
    finally:
        await connection.close()
