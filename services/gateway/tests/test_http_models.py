import httpx
from door_world import CHAT, MESSAGES
from gateway_world import Headers, ScriptedBus

from contracts.models import ModelInfo, ModelPage

MODELS = ModelPage(
    models=tuple(
        ModelInfo(id=name, vendor="v", model=name, is_alias="/" not in name)
        for name in ("a", "v/b", "v/c")
    )
)
VERSION = {"anthropic-version": "2023-06-01"}


async def test_models_are_listed_in_either_form(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """OpenAI's, or Anthropic's by pages when its version header comes along."""
    bus.answers["models"] = lambda _: MODELS
    openai = (await client.get("/v1/models", headers=acme)).json()
    assert openai["object"] == "list"
    assert [each["id"] for each in openai["data"]] == ["a", "v/b", "v/c"]
    assert openai["data"][1]["owned_by"] == "v"
    page = await client.get("/v1/models?limit=2", headers=acme | VERSION)
    assert [each["id"] for each in page.json()["data"]] == ["a", "v/b"]
    assert page.json()["has_more"]
    query = {"limit": "2", "after_id": page.json()["last_id"]}
    rest = await client.get("/v1/models", params=query, headers=acme | VERSION)
    assert [each["id"] for each in rest.json()["data"]] == ["v/c"]
    assert not rest.json()["has_more"]
    before = {"limit": "1", "before_id": "v/c"}
    back = await client.get("/v1/models", params=before, headers=acme | VERSION)
    assert [each["id"] for each in back.json()["data"]] == ["v/b"]


async def test_one_model_is_found_by_its_id(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """Slashes included; an unknown one is 404 in the caller's language."""
    bus.answers["models"] = lambda _: MODELS
    found = await client.get("/v1/models/v/b", headers=acme)
    assert found.json()["object"] == "model"
    found = await client.get("/v1/models/a", headers=acme | VERSION)
    assert found.json()["type"] == "model"
    absent = await client.get("/v1/models/x", headers=acme)
    assert absent.status_code == 404
    assert absent.json()["error"]["code"] == "model_not_found"
    absent = await client.get("/v1/models/x", headers=acme | VERSION)
    assert absent.json()["error"]["type"] == "not_found_error"


async def test_the_document_tells_of_the_doors(client: httpx.AsyncClient) -> None:
    """With the fields that they take, and no others."""
    document = (await client.get("/openapi.json")).json()
    for path, name in ((CHAT, "reasoning_effort"), (MESSAGES, "thinking")):
        body = document["paths"][path]["post"]["requestBody"]
        schema = body["content"]["application/json"]["schema"]
        assert name in schema["properties"]
        assert schema["additionalProperties"] is False
