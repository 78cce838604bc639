"""A vendor is asked for its models with the same key, and fails in the same words."""

import json
import socket
from contextlib import aclosing

import pytest
from recorded import Recorder, client, entry
from sides import Side

from ai_broker.domain.catalogue import Protocol
from ai_broker.domain.showing import reach_of
from ai_broker.domain.vendor import Started, VendorError, VendorEvent
from ai_broker.ports.vendors import Vendor
from contracts.vendors import Reach

PATHS = {Protocol.OPENAI: "/models", Protocol.ANTHROPIC: "/v1/models"}
QUOTING = json.dumps({"error": {"message": "bad key secret-key"}}).encode()


async def told(vendor: Vendor) -> list[VendorEvent]:
    """Ask once."""
    async with aclosing(vendor.models("check_7", 5.0)) as events:
        return [each async for each in events]


async def found(vendor: Vendor) -> tuple[Reach, str]:
    """Ask once; give what the failure tells."""
    with pytest.raises(VendorError) as raised:
        await told(vendor)
    return reach_of(raised.value.failure), raised.value.failure.message


async def test_a_real_server_tells_its_models(side: Side) -> None:
    """Each protocol by each transport, against the sandbox vendor."""
    (started,) = await told(side.vendor)
    assert isinstance(started, Started)
    assert started.http_status == 200


@pytest.mark.parametrize("protocol", list(Protocol))
async def test_the_key_goes_where_it_goes_with_a_call(
    recorder: Recorder, transport: str, protocol: Protocol
) -> None:
    """By the catalogue's header and query, to the protocol's own path."""
    recorder.pieces = [b'{"data": []}']
    recorder.replied = {"content-type": "application/json"}
    vendor = entry(protocol, key_header="api-key", query={"api-version": "preview"})
    made = client(vendor, recorder.url, transport)
    assert len(await told(made)) == 1
    await made.close()
    assert recorder.path == f"{PATHS[protocol]}?api-version=preview"
    assert recorder.headers["api-key"] == "secret-key"
    assert recorder.headers["x-client-request-id"] == "check_7"
    assert "authorization" not in recorder.headers
    assert recorder.asked == 1


@pytest.mark.parametrize(
    ("status", "reach"),
    [
        (401, Reach.KEY_REFUSED),
        (403, Reach.KEY_REFUSED),
        (404, Reach.UNPROVEN),
        (405, Reach.UNPROVEN),
        (307, Reach.FAILING),
        (400, Reach.FAILING),
        (429, Reach.RATE_LIMITED),
        (500, Reach.FAILING),
        (529, Reach.FAILING),
    ],
)
async def test_an_error_tells_what_is_wrong(
    recorder: Recorder, transport: str, status: int, reach: Reach
) -> None:
    """By its status, once, and without the key that the vendor may quote."""
    recorder.status, recorder.pieces = status, [QUOTING]
    recorder.replied = {"location": "/elsewhere"} if status == 307 else {}
    made = client(entry(Protocol.OPENAI), recorder.url, transport)
    what, words = await found(made)
    await made.close()
    assert what is reach
    assert str(status) in words
    assert "secret-key" not in words
    assert recorder.asked == 1


@pytest.mark.parametrize("page", [b"<html>Log in</html>", b"", b'"models"'])
async def test_a_page_that_is_no_list_is_no_vendor(
    recorder: Recorder, transport: str, page: bytes
) -> None:
    """An address that leads to some web page is told, whatever status it has."""
    recorder.pieces = [page]
    made = client(entry(Protocol.OPENAI), recorder.url, transport)
    what, words = await found(made)
    await made.close()
    assert what is Reach.FAILING
    assert "not its protocol" in words


async def test_nobody_there_is_unreachable(transport: str) -> None:
    """A closed port, and a server that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        silent = client(entry(Protocol.OPENAI), url, transport)
        assert await found(silent) == (
            Reach.UNREACHABLE,
            "v did not begin to answer in time",
        )
        await silent.close()
    gone = client(entry(Protocol.OPENAI), url, transport)
    assert await found(gone) == (Reach.UNREACHABLE, "v could not be reached")
    await gone.close()
