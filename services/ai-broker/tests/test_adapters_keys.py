"""Keys in files, and the clients that keys open and close."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ai_broker.adapters.key_files import KeyFile, find_key_files
from ai_broker.adapters.vendors.pool import FileKeyed, VendorPool
from ai_broker.domain.catalogue import (
    Candidate,
    Catalogue,
    Endpoint,
    Protocol,
    VendorEntry,
    addresses,
    usable,
)
from ai_broker.domain.vendor import (
    Failure,
    FailureKind,
    Prepared,
    Started,
    VendorError,
    VendorEvent,
)
from contracts.completions import CompletionRequest
from contracts.message import JsonObject

ENTRY = VendorEntry(
    name="openai",
    protocol=Protocol.OPENAI,
    base_url="https://openai.test",
    key_envs=("OPENAI_API_KEY", "OTHER_KEY"),
)
CATALOGUE = Catalogue(
    vendors=(
        ENTRY,
        VendorEntry(name="sandbox", protocol=Protocol.OPENAI, base_url="{sandbox}/v1"),
    ),
    aliases={},
)


class Client:
    """Knows its key, and whether it was closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.key = endpoint.key
        self.is_closed = False

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        raise AssertionError("not asked here")

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        assert not self.is_closed
        yield Started(200, self.key)
        assert not self.is_closed
        if body:
            told = f"your key {self.key} is bad"
            raise VendorError(Failure(FailureKind.REFUSED, told, 400, self.key))

    async def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        async for event in self.complete(body, attempt_id, timeout_s):
            yield event

    async def models(
        self, check_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        async for event in self.complete({}, check_id, timeout_s):
            yield event

    async def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class Made(list[Client]):
    """Every client that was made."""

    def make(self, endpoint: Endpoint) -> Client:
        self.append(Client(endpoint))
        return self[-1]

    @property
    def open_keys(self) -> list[str]:
        return [each.key for each in self if not each.is_closed]


def endpoint(key: str) -> Endpoint:
    """Give the vendor with a key."""
    return Endpoint(ENTRY, ENTRY.base_url, key)


async def key_used(calls: AsyncGenerator[VendorEvent]) -> str | None:
    """Run a call to its end; give the key that it was made with."""
    (started,) = [each async for each in calls]
    assert isinstance(started, Started)
    return started.request_id


async def test_one_key_has_one_client_and_another_key_another() -> None:
    """Clients are shared by owner and vendor; a new key closes the old one's."""
    made = Made()
    pool = VendorPool(made.make)
    one = await pool.vendor("acme", endpoint("key-1"))
    assert await pool.vendor("acme", endpoint("key-1")) is one
    assert await key_used(one.complete({}, "a", 1)) == "key-1"
    assert await key_used(one.embed({}, "a", 1)) == "key-1"
    two = await pool.vendor("acme", endpoint("key-2"))
    assert await key_used(two.complete({}, "a", 1)) == "key-2"
    other = await pool.vendor("globex", endpoint("key-1"))
    assert await key_used(other.complete({}, "a", 1)) == "key-1"
    assert made.open_keys == ["key-2", "key-1"]
    await pool.drop("acme", "openai")
    assert made.open_keys == ["key-1"]
    await pool.close()
    assert made.open_keys == []


async def test_only_the_last_used_clients_stay_open() -> None:
    """The pool is bounded, and the least recently used client goes first."""
    made = Made()
    pool = VendorPool(made.make, clients_max=2)
    for owner in ("a", "b", "a", "c"):
        await key_used((await pool.vendor(owner, endpoint(owner))).complete({}, "x", 1))
    assert len(pool) == 2
    assert made.open_keys == ["a", "c"]
    await pool.close()


async def test_a_client_is_not_closed_under_a_call() -> None:
    """A call that runs when its key goes ends well; then the client is closed."""
    made = Made()
    pool = VendorPool(made.make)
    vendor = await pool.vendor("acme", endpoint("key-1"))
    running = vendor.complete({}, "a", 1)
    await anext(running)
    await pool.drop("acme", "openai")
    assert made.open_keys == ["key-1"]
    assert [each async for each in running] == []
    assert made.open_keys == []
    assert await key_used(vendor.complete({}, "late", 1)) == "key-1"
    assert len(made) == 2
    assert made.open_keys == []


async def test_a_vendor_that_quotes_the_key_does_not_tell_it() -> None:
    """Neither the failure nor the chain of exceptions carries the key on."""
    pool = VendorPool(Made().make)
    vendor = await pool.vendor("acme", endpoint("key-secret"))
    with pytest.raises(VendorError) as caught:
        async for _ in vendor.complete({"x": 1}, "a", 1):
            pass
    assert "key-secret" not in repr(caught.value.failure)
    assert caught.value.failure.message == "your key [key] is bad"
    assert caught.value.__suppress_context__
    assert "key-secret" not in repr(endpoint("key-secret"))
    await pool.close()


async def test_a_tenant_hears_that_its_own_key_was_refused(tmp_path: Path) -> None:
    """Not the platform's: only who put a key can put another."""

    class Refusing(Client):
        async def complete(
            self, body: JsonObject, attempt_id: str, timeout_s: float
        ) -> AsyncGenerator[VendorEvent]:
            raise VendorError(Failure(FailureKind.REFUSED, "the platform's", 401))
            yield  # a generator, as the port wants it

    path = tmp_path / "key"
    path.write_text("key-1")
    pool = VendorPool(Refusing)
    for vendor, says in (
        (await pool.vendor("acme", endpoint("key-1")), "refused your own key"),
        (FileKeyed(endpoint("key-1"), KeyFile(path), Refusing), "the platform's"),
    ):
        with pytest.raises(VendorError, match=says):
            async for _ in vendor.complete({}, "a", 1):
                pass
        await vendor.close()


async def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A mounted secret that is replaced counts from the next call on."""
    path, made = tmp_path / "key", Made()
    path.write_text("key-1\n")
    vendor = FileKeyed(endpoint(""), KeyFile(path), made.make)
    assert await key_used(vendor.complete({}, "a", 1)) == "key-1"
    assert await key_used(vendor.complete({}, "a", 1)) == "key-1"
    new = tmp_path / "new"
    new.write_text("key-2")
    new.replace(path)
    assert await key_used(vendor.embed({}, "a", 1)) == "key-2"
    assert made.open_keys == ["key-2"]
    path.unlink()
    assert await key_used(vendor.complete({}, "a", 1)) == "key-2"
    path.write_text("")
    assert await key_used(vendor.complete({}, "a", 1)) == "key-2"
    assert len(made) == 2
    await vendor.close()
    assert made.open_keys == []


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"a\nb", b"x" * 9_000])
def test_a_file_without_a_key_stops_the_start(tmp_path: Path, content: bytes) -> None:
    """The error names the file, and nothing of what it holds."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="key") as caught:
        KeyFile(path)
    assert "xxx" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read"):
        KeyFile(tmp_path / "nothing")


def test_key_files_are_named_by_the_environment(tmp_path: Path) -> None:
    """``…_FILE`` stands for its variable; both at once are refused."""
    path = tmp_path / "key"
    path.write_text("key-1")
    environment = {"OTHER_KEY_FILE": os.fspath(path), "UNRELATED_FILE": "x"}
    found = find_key_files(CATALOGUE, environment)
    assert {name: file.key() for name, file in found.items()} == {"OTHER_KEY": "key-1"}
    assert "key-1" not in repr(found)
    with pytest.raises(ValueError, match="both set"):
        find_key_files(CATALOGUE, {**environment, "OTHER_KEY": "x"})


def test_a_tenant_s_key_makes_vendors_usable_that_the_platform_has_none_for() -> None:
    """What has an address needs only a key; the sandbox has none where it is not."""
    assert usable(CATALOGUE, {}, None) == ()
    assert set(addresses(CATALOGUE, {}, None)) == {"openai"}
    assert set(addresses(CATALOGUE, {}, "http://sandbox")) == {"openai", "sandbox"}
