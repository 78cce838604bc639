"""The development tenant: made through the gateway, as any tenant would be."""

from pathlib import Path
from typing import Any, Final

import httpx

from embedded.state import ROOT, State, read_json, write_json

TENANT: Final = "demo"
EXAMPLES: Final = ROOT / "examples"
LIMIT_S: Final = 20.0
CREATED: Final = 201
CONFLICT: Final = 409
OK: Final = 200


class SetUpFailed(RuntimeError):
    """The gateway refused something that a fresh platform must take."""


async def ensure_tenant(gateway: str, admin_key: str, state: State) -> dict[str, Any]:
    """
    Return the development tenant's credentials, making the tenant if need be.

    Returns:
        ``{"tenant", "api_key", "nats": {"url", "user", "password", …}}``.

    Raises:
        SetUpFailed: The gateway knows the tenant but its credentials are lost.
    """
    known = read_json(state.tenant)
    async with httpx.AsyncClient(base_url=gateway, timeout=LIMIT_S) as client:
        if known is not None and await _works(client, known["api_key"]):
            return known
        admin = {"authorization": f"Bearer {admin_key}"}
        answer = await client.post(
            "/v1/tenants", json={"tenant": TENANT}, headers=admin
        )
        if answer.status_code == CONFLICT:
            message = (
                f"tenant {TENANT} exists, but {state.tenant} does not hold its "
                "credentials: start afresh with ./just down --wipe"
            )
            raise SetUpFailed(message)
        if answer.status_code != CREATED:
            raise SetUpFailed(f"make tenant {TENANT}: {answer.text}")
        created: dict[str, Any] = answer.json()
    write_json(state.tenant, created)
    return created


async def apply_examples(gateway: str, api_key: str) -> None:
    """
    Apply every employee and trigger of ``examples/``.

    Raises:
        SetUpFailed: The gateway refused one.
    """
    headers = {
        "authorization": f"Bearer {api_key}",
        "content-type": "application/yaml",
    }
    async with httpx.AsyncClient(
        base_url=gateway, timeout=LIMIT_S, headers=headers
    ) as client:
        for kind in ("employees", "triggers"):
            for path in sorted((EXAMPLES / kind).glob("*.yaml")):
                await _apply(client, kind, path, path.read_bytes())


async def _apply(
    client: httpx.AsyncClient, kind: str, path: Path, content: bytes
) -> None:
    answer = await client.post(f"/v1/{kind}", content=content)
    if answer.status_code != OK:
        raise SetUpFailed(f"apply {path.name}: {answer.text}")


async def _works(client: httpx.AsyncClient, api_key: str) -> bool:
    headers = {"authorization": f"Bearer {api_key}"}
    answer = await client.get("/v1/tasks?limit=1", headers=headers)
    return answer.status_code == OK
