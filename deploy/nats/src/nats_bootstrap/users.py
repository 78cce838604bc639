"""The included file of users, and the servers that must read it again."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import nats
import nats.errors
from nats.aio.client import Client
from pydantic import BaseModel, ValidationError

from faults import PermanentFault, TransientFault
from nats_bootstrap.render import tenants_in, with_tenants
from nats_bootstrap.topology import SYSTEM_USER
from telemetry import get_logger

log = get_logger()

PING_WAIT_S: Final = 0.5
RELOAD_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0
RELOADS: Final = 2
"""
A server (2.15.1) that first learns of an account by a reload leaves the services
that the account imports unsubscribed, so a new tenant's events would find nobody; it
subscribes them at the next reload, when it knows the account.
"""
SERVERS_MAX: Final = 64
FILE_MODE: Final = 0o600


class System:
    """
    The bootstrap's connection to the system account.

    Args:
        url: The server's URL, without credentials.
        password: The system user's.
    """

    def __init__(self, url: str, password: str | None) -> None:
        self._url = url
        self._password = password
        self._client: Client | None = None

    async def reload(self) -> None:
        """
        Let every server read its configuration again; nobody is disconnected.

        Raises:
            PermanentFault: A server found the configuration invalid and keeps
                the old one.
            TransientFault: No server answered.
        """
        client = await self._connected()
        try:
            for server in await _servers(client) * RELOADS:
                subject = f"$SYS.REQ.SERVER.{server}.RELOAD"
                reply = await client.request(subject, b"", timeout=RELOAD_TIMEOUT_S)
                _require_reloaded(server, reply.data)
        except nats.errors.Error as cause:
            raise TransientFault(f"reload NATS: {cause!r}") from cause

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()

    async def _connected(self) -> Client:
        if self._client is not None and self._client.is_connected:
            return self._client
        await self.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._client = await nats.connect(  # pyright: ignore[reportUnknownMemberType]
                    self._url,
                    user=SYSTEM_USER,
                    password=self._password,
                    inbox_prefix=f"_INBOX.{SYSTEM_USER}",
                    name="bootstrap-system",
                    allow_reconnect=False,
                    error_cb=_ignore,
                )
        except (nats.errors.Error, OSError, TimeoutError) as cause:
            detail = f"connect to the NATS system account: {cause!r}"
            raise TransientFault(detail) from cause
        return self._client


class UsersFile:
    """
    The included file.

    Args:
        path: Where the main configuration includes it from.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def tenants(self) -> tuple[tuple[str, str], ...]:
        """Return the tenants that the file names, as (tenant, bcrypt hash)."""
        return tenants_in(self._read())

    def replace(self, tenants: Sequence[tuple[str, str]]) -> str | None:
        """Write these tenants; return the former text, or None if none changed."""
        before = self._read()
        after = with_tenants(before, tenants)
        if after == before:
            return None
        self.write(after)
        return before

    def write(self, text: str) -> None:
        """Put a text in place of the file, whole or not at all."""
        write_secret(self._path, text)

    def _read(self) -> str:
        try:
            return self._path.read_text()
        except OSError as cause:
            detail = f"read {self._path}: {cause.strerror}; run nats_bootstrap render"
            raise PermanentFault(detail) from cause


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=FILE_MODE)
    partial.write_text(text)
    partial.replace(path)


async def _servers(client: Client) -> list[str]:
    """Return the id of every server of the cluster that answers in time."""
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox, max_msgs=SERVERS_MAX)  # pyright: ignore[reportUnknownMemberType]
    found: list[str] = []
    try:
        await client.publish("$SYS.REQ.SERVER.PING", b"", reply=inbox)
        while len(found) < SERVERS_MAX:
            msg = await answers.next_msg(timeout=PING_WAIT_S)
            found.append(_Ping.model_validate_json(msg.data).server.id)
    except (nats.errors.TimeoutError, ValidationError):
        pass
    finally:
        await answers.unsubscribe()
    if not found:
        raise TransientFault("reload NATS: no server answered the system account")
    return found


def _require_reloaded(server: str, body: bytes) -> None:
    try:
        error = _Reloaded.model_validate_json(body).error
    except ValidationError as cause:
        raise TransientFault(f"reload {server}: unreadable answer") from cause
    if error is not None:
        detail = f"reload {server}: refused: {error.description}"
        raise PermanentFault(detail, code="config-invalid")


async def _ignore(error: Exception) -> None:
    log.debug("nats_system_error", error=repr(error))


class _Server(BaseModel):
    id: str


class _Ping(BaseModel):
    server: _Server


class _ReloadError(BaseModel):
    description: str = ""


class _Reloaded(BaseModel):
    error: _ReloadError | None = None
