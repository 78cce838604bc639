"""
Vendor clients by credential: few, shared, and closed when nobody uses them.

A client keeps connections and a key in memory, so only the most recently used stay.
One that has to go while a call runs is closed by the call's end; a call that begins
on one that has gone opens it anew for its own time.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from ai_broker.adapters.key_files import KeyFile
from ai_broker.domain.catalogue import Candidate, Endpoint
from ai_broker.domain.vendor import Prepared, VendorError, VendorEvent
from ai_broker.ports.vendors import EmbeddingVendor
from contracts.completions import CompletionRequest
from contracts.message import JsonObject

CLIENTS_MAX: Final = 128
HIDDEN: Final = "[key]"
_CREDENTIALS: Final = frozenset({401, 403})

Make = Callable[[Endpoint], EmbeddingVendor]
Ask = Callable[[EmbeddingVendor], AsyncGenerator[VendorEvent]]


class VendorPool:
    """
    The clients of tenants' own keys, by owner and vendor.

    Args:
        make: Opens a client.
        clients_max: How many stay open.
    """

    def __init__(self, make: Make, clients_max: int = CLIENTS_MAX) -> None:
        self._make = make
        self._clients_max = clients_max
        self._clients: OrderedDict[tuple[str, str], _Shared] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are open for use."""
        return len(self._clients)

    async def vendor(self, owner: str, endpoint: Endpoint) -> EmbeddingVendor:
        """Return the client of an owner's key; another key has another client."""
        name = (owner, endpoint.entry.name)
        found = self._clients.get(name)
        if found is not None and found.endpoint == endpoint:
            self._clients.move_to_end(name)
            return found
        client = _Shared(endpoint, self._make, is_own=True)
        self._clients[name] = client
        self._clients.move_to_end(name)
        if found is not None:
            await found.retire()
        while len(self._clients) > self._clients_max:
            _, oldest = self._clients.popitem(last=False)
            await oldest.retire()
        return client

    async def drop(self, owner: str, vendor: str) -> None:
        """Close the client of a key that is gone."""
        found = self._clients.pop((owner, vendor), None)
        if found is not None:
            await found.retire()

    async def close(self) -> None:
        """Close every client."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()


class _Shared:
    """One credential's client, which counts its calls; it never tells its key."""

    def __init__(self, endpoint: Endpoint, make: Make, *, is_own: bool = False) -> None:
        self.endpoint = endpoint
        self._make = make
        self._is_own = is_own
        self._client: EmbeddingVendor | None = None
        self._calls = 0
        self._retired = False

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return the request in the vendor's own form."""
        return self._open().prepare(request, candidate)

    def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Call the vendor once."""
        return self._counted(lambda at: at.complete(body, attempt_id, timeout_s))

    def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Ask the vendor for vectors once."""
        return self._counted(lambda at: at.embed(body, attempt_id, timeout_s))

    def models(self, check_id: str, timeout_s: float) -> AsyncGenerator[VendorEvent]:
        """Ask which models there are."""
        return self._counted(lambda at: at.models(check_id, timeout_s))

    async def _counted(self, ask: Ask) -> AsyncGenerator[VendorEvent]:
        client = self._open()
        self._calls += 1
        try:
            async with aclosing(ask(client)) as events:
                async for event in events:
                    yield event
        except VendorError as error:
            # Not ``from error``: that one may quote the key.
            raise _told(self.endpoint, error, is_own=self._is_own) from None
        finally:
            self._calls -= 1
            if self._retired and self._calls == 0:
                await self.close()

    async def retire(self) -> None:
        """Close once no call runs."""
        self._retired = True
        if self._calls == 0:
            await self.close()

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> EmbeddingVendor:
        if self._client is None:
            self._client = self._make(self.endpoint)
        return self._client


class FileKeyed:
    """
    A vendor of the platform whose key is in a file that may change.

    Args:
        endpoint: Where it is; its key is replaced by the file's.
        file: The key.
        make: Opens a client.
    """

    def __init__(self, endpoint: Endpoint, file: KeyFile, make: Make) -> None:
        self._file = file
        self._make = make
        self._shared = _Shared(replace(endpoint, key=file.key()), make)

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return the request in the vendor's own form."""
        return self._shared.prepare(request, candidate)

    def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Call the vendor once, with the key that the file holds now."""
        return self._newest(lambda at: at.complete(body, attempt_id, timeout_s))

    def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Ask for vectors once, with the key that the file holds now."""
        return self._newest(lambda at: at.embed(body, attempt_id, timeout_s))

    def models(self, check_id: str, timeout_s: float) -> AsyncGenerator[VendorEvent]:
        """Ask which models there are, with the key that the file holds now."""
        return self._newest(lambda at: at.models(check_id, timeout_s))

    async def _newest(self, ask: Ask) -> AsyncGenerator[VendorEvent]:
        endpoint = replace(self._shared.endpoint, key=self._file.key())
        if endpoint != self._shared.endpoint:
            old, self._shared = self._shared, _Shared(endpoint, self._make)
            await old.retire()
        async with aclosing(ask(self._shared)) as events:
            async for event in events:
                yield event

    async def close(self) -> None:
        """Close the connections."""
        await self._shared.close()


def _told(endpoint: Endpoint, error: VendorError, *, is_own: bool) -> VendorError:
    """Return the error without the key, and with whose key it is that was refused."""
    key, failure = endpoint.key, error.failure
    if is_own and failure.status in _CREDENTIALS:
        name = endpoint.entry.name
        detail = f"{name} refused your own key for it ({failure.status}): put a new one"
        failure = replace(failure, message=detail)
    told = {
        "message": failure.message.replace(key, HIDDEN),
        "code": failure.code and failure.code.replace(key, HIDDEN),
        "request_id": failure.request_id and failure.request_id.replace(key, HIDDEN),
    }
    return VendorError(replace(failure, **told))
