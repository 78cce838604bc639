import bcrypt
import httpx
import pytest
from gateway_world import ADMIN, AS_ADMIN, BODY, Headers, ScriptedBus

from contracts.delivery import Nothing
from contracts.employees import ApplyEmployee, EmployeeVersion
from gateway.app import Composed
from gateway.handlers import tenants

YAML = b"""
kind: employee
name: clerk
role: Clerk
instructions: Check.
"""


async def test_a_tenant_gets_its_secrets_once(
    client: httpx.AsyncClient, gateway: Composed
) -> None:
    """Only hashes are kept; the NATS hash is what nats-server reads."""
    made = await client.post("/v1/tenants", json={"tenant": "acme"}, headers=AS_ADMIN)
    password = made.json()["nats"]["password"]
    stored = (await tenants.list_tenants(gateway.deps)).tenants[0]
    assert bcrypt.checkpw(password.encode(), stored.nats_password_hash.encode())
    listed = await client.get("/v1/keys", headers=AS_ADMIN)
    secret = made.json()["api_key"].split("_")[2]
    assert secret not in listed.text
    assert password not in listed.text


async def test_a_tenant_id_is_taken_once(client: httpx.AsyncClient) -> None:
    """The second is refused; the first one's key goes on working."""
    made = await client.post("/v1/tenants", json={"tenant": "acme"}, headers=AS_ADMIN)
    again = await client.post("/v1/tenants", json={"tenant": "acme"}, headers=AS_ADMIN)
    assert (made.status_code, again.status_code) == (201, 409)


async def test_tenants_are_for_admins(
    client: httpx.AsyncClient, acme: dict[str, str]
) -> None:
    """A tenant's key makes no tenants and no keys."""
    answer = await client.post("/v1/tenants", json={"tenant": "evil"}, headers=acme)
    assert answer.status_code == 403
    answer = await client.post("/v1/keys", json={"name": "mine"}, headers=acme)
    assert answer.status_code == 403


async def test_a_revoked_key_stops_at_once(
    client: httpx.AsyncClient, acme: dict[str, str]
) -> None:
    """The very next request is refused, though the key was in use a moment ago."""
    answer = await client.get("/v1/employees", headers=acme)
    assert answer.status_code != 401
    key_id = acme["authorization"].split("_")[1]
    answer = await client.delete(f"/v1/keys/{key_id}", headers=AS_ADMIN)
    assert answer.status_code == 204
    answer = await client.get("/v1/employees", headers=acme)
    assert answer.status_code == 401


async def test_an_expired_key_is_refused(client: httpx.AsyncClient) -> None:
    """A key works until its hour, not after."""
    await client.post("/v1/tenants", json={"tenant": "acme"}, headers=AS_ADMIN)
    made = await client.post(
        "/v1/keys",
        json={"tenant": "acme", "expires_at": "2020-01-01T00:00:00Z"},
        headers=AS_ADMIN,
    )
    headers = {"authorization": f"Bearer {made.json()['api_key']}"}
    assert (await client.get("/v1/employees", headers=headers)).status_code == 401


async def test_employees_may_be_written_in_yaml(
    client: httpx.AsyncClient, acme: dict[str, str], bus: ScriptedBus
) -> None:
    """The document reaches its owner as the model it is."""

    def apply(request: ApplyEmployee) -> EmployeeVersion:
        return EmployeeVersion.model_validate(
            {
                "tenant": request.tenant,
                "version": 1,
                "digest": "d",
                "employee": request.employee,
                "created_at": "2026-11-23T12:00:00Z",
            }
        )

    bus.answers["employee-apply"] = apply
    headers = acme | {"content-type": "application/yaml"}
    answer = await client.post("/v1/employees", content=YAML, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["employee"]["name"] == "clerk"


async def test_yaml_aliases_are_refused(
    client: httpx.AsyncClient, acme: dict[str, str]
) -> None:
    """A small document cannot unfold into an enormous one."""
    headers = acme | {"content-type": "application/yaml"}
    bomb = b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    answer = await client.post("/v1/employees", content=bomb, headers=headers)
    assert answer.status_code == 400
    assert "aliases" in answer.json()["detail"]


async def test_an_unknown_field_in_a_document_is_named(
    client: httpx.AsyncClient, acme: dict[str, str]
) -> None:
    """A typing error in a document is not silently ignored."""
    headers = acme | {"content-type": "application/yaml"}
    answer = await client.post(
        "/v1/employees", content=YAML + b"tols: []", headers=headers
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/tols"


@pytest.mark.parametrize("tenant", ["platform", "Acme", "a.b", "a b", "*", "", "-a"])
async def test_a_tenant_id_must_be_one_of_its_own(
    client: httpx.AsyncClient, tenant: str
) -> None:
    """On subjects ``platform`` means no tenant: nobody may be called that."""
    answer = await client.post("/v1/tenants", json={"tenant": tenant}, headers=AS_ADMIN)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/tenant"


async def test_a_new_configured_key_works_though_the_old_was_revoked(
    client: httpx.AsyncClient, gateway: Composed
) -> None:
    """Rotation needs no other id; the revoked secret itself stays refused."""
    await client.delete("/v1/keys/admin", headers=AS_ADMIN)
    await tenants.seed_admin(ADMIN, gateway.deps)
    assert (await client.get("/v1/tenants", headers=AS_ADMIN)).status_code == 401
    await tenants.seed_admin("de_admin_new", gateway.deps)
    fresh = {"authorization": "Bearer de_admin_new"}
    assert (await client.get("/v1/tenants", headers=fresh)).status_code == 200


async def test_an_admin_hands_in_no_tasks(client: httpx.AsyncClient) -> None:
    """A task needs a tenant who pays for it."""
    answer = await client.post("/v1/tasks", json=BODY, headers=AS_ADMIN)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"name: 2026-02-30",
        b"name: " + b"9" * 5000,
        b"name: .nan",
        b"a: " + b"[" * 5000,
        b"name: \xff",
        b"? [a]\n: b",
        b"- a",
        b"",
    ],
    ids=["date", "digits", "nan", "deep", "not-utf8", "key", "list", "empty"],
)
async def test_a_document_that_is_none_is_refused(
    client: httpx.AsyncClient, acme: Headers, body: bytes
) -> None:
    """400 with the reason, whatever the YAML parser makes of it."""
    headers = acme | {"content-type": "application/yaml"}
    answer = await client.post("/v1/employees", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("service", "status"), [("billing-meter", 403), ("orchestrator", 204)]
)
async def test_a_tenant_repairs_only_what_its_own_systems_sent(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    service: str,
    status: int,
) -> None:
    """Nobody writes usage by hand to lower a bill; an admin may mend a letter."""
    bus.answers["deadletter-replay"] = lambda _request: Nothing()
    path = f"/v1/deadletters/{service}/dead_1/replay"
    body = {"body": "e30="}
    assert (await client.post(path, headers=acme, json=body)).status_code == status
    assert (await client.post(path, headers=acme)).status_code == 204
    assert (await client.post(path, headers=AS_ADMIN, json=body)).status_code == 204
