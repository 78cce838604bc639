"""
The server's configuration as text.

Two files. The main one never changes while the platform runs. The included one
holds the services' account and every tenant's, because the server's format cannot
add to a list from a second file, and a tenant's account needs a line in the list
of what the services' account exports. The services' users stay as set-up wrote
them; everything after the mark is the bootstrap's to rewrite.

A tenant has an account of its own, so the reply subject that it names in a publish
is a subject of that account: the server carries the PubAck back through a reply
of its own making, and nothing of the tenant's choosing reaches the services.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.ids import NAME_PATTERN
from contracts.subjects import Service, events_pattern
from faults import PermanentFault
from nats_bootstrap.topology import (
    ALL_USERS,
    APP_ACCOUNT,
    SYSTEM_ACCOUNT,
    SYSTEM_USER,
    Permissions,
    permissions_of,
    system_permissions,
    tenant_account,
    tenant_facts,
    tenant_permissions,
    tenant_user,
)

PAYLOAD_BYTES_MAX: Final = 8 * 1024 * 1024
"""The largest that nats-server advises: completions carry images; see topology."""
FILE_STORE_BYTES_MAX: Final = 16 * 1024**3
MEMORY_STORE_BYTES_MAX: Final = 64 * 1024**2
TENANTS_MARK: Final = "# Tenants' accounts: nats_bootstrap rewrites all below."
TENANT_LINE: Final = re.compile(
    r'^ *\{ user: "tenant-(?P<tenant>[a-z0-9-]+)", password: "(?P<hash>[^"]+)",',
    re.MULTILINE,
)
SAFE_TEXT: Final = re.compile(r"^[\x20\x21\x23-\x5b\x5d-\x7e]+$")
BCRYPT: Final = re.compile(r"^\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}$")


def render(
    users: Mapping[str, str],
    tenants: Sequence[tuple[str, str]],
    *,
    port: int,
    store_dir: str | Path,
    sync_interval: str = "1s",
    include_path: str | Path,
    monitor_port: int | None = None,
    host: str = "127.0.0.1",
) -> tuple[str, str]:
    """
    Return the main configuration and the file that it includes.

    Args:
        users: Password, or bcrypt hash of it, of each of ``topology.ALL_USERS``.
        tenants: (tenant, bcrypt hash of its password).
        port: Where clients connect.
        store_dir: JetStream's folder.
        sync_interval: How often JetStream calls fsync; ``always`` where NATS
            holds what nobody else has.
        include_path: Where the second text goes; relative ones start at the
            main file.
        monitor_port: Where the server's own HTTP monitoring listens; none if
            absent.
        host: The address to listen on.

    Raises:
        PermanentFault: A user is missing, or a password or hash cannot be written.
    """
    absent = [name for name in ALL_USERS if name not in users]
    if absent:
        raise PermanentFault(f"no password for NATS users: {', '.join(absent)}")
    monitor = "" if monitor_port is None else f'http: "{host}:{monitor_port}"\n'
    system = _user(SYSTEM_USER, users[SYSTEM_USER], system_permissions())
    config = f"""\
# Written by nats_bootstrap; the other accounts are in the included file.
listen: "{host}:{port}"
{monitor}max_payload: {PAYLOAD_BYTES_MAX}
write_deadline: "10s"
ping_interval: "20s"
jetstream {{
  store_dir: {_text(str(store_dir))}
  sync_interval: {sync_interval}
  max_file_store: {FILE_STORE_BYTES_MAX}
  max_memory_store: {MEMORY_STORE_BYTES_MAX}
}}
# Measured: with it, ordered consumers and the connection hang in nats-py 2.16.
feature_flags {{ js_ack_fc_v2: false }}
system_account: {SYSTEM_ACCOUNT}
accounts {{
  {SYSTEM_ACCOUNT} {{
    users: [
{system}
    ]
  }}
  include {_text(str(include_path))}
}}
"""
    return config, with_tenants(_services(users), tenants)


def with_tenants(include_text: str, tenants: Sequence[tuple[str, str]]) -> str:
    """
    Return the included file with these tenants in place of those it had.

    Raises:
        PermanentFault: The text was not written by ``render``, or a tenant's name
            or hash cannot be written.
    """
    services, mark, _ = include_text.partition(TENANTS_MARK)
    if not mark:
        raise PermanentFault(
            "the included NATS file has no mark where tenants begin; render it anew"
        )
    found = sorted(tenants)
    accounts = [_account(name, hashed) for name, hashed in found]
    exports = [_exports(name) for name, _ in found]
    head = [services.rstrip(), f"  {TENANTS_MARK}"]
    return "\n".join([*head, "  exports: [", *exports, "  ]", "}", *accounts, ""])


def tenants_in(include_text: str) -> tuple[tuple[str, str], ...]:
    """
    Return the tenants of an included file, as (tenant, bcrypt hash).

    The mark is not looked for: a file of an older version, which had tenants in
    the services' account, hands over its tenants to the file that replaces it.
    """
    found = TENANT_LINE.finditer(include_text)
    return tuple((each["tenant"], each["hash"]) for each in found)


def _services(users: Mapping[str, str]) -> str:
    lines = [
        _user(service, users[service], permissions_of(service)) for service in Service
    ]
    head = [f"{APP_ACCOUNT} {{", "  jetstream: enabled", "  users: ["]
    return "\n".join([*head, *lines, "  ]", f"  {TENANTS_MARK}", ""])


def _exports(tenant: str) -> str:
    """Return what the services' account opens to this tenant's alone."""
    to = f"accounts: [{_text(tenant_account(tenant))}]"
    return (
        f"    {{ service: {_text(events_pattern(tenant))}, {to} }}\n"
        f"    {{ stream: {_text(tenant_facts(tenant))}, {to} }}"
    )


def _account(tenant: str, hashed: str) -> str:
    """Return a tenant's account: its user, no JetStream, and its two imports."""
    if re.match(NAME_PATTERN, tenant) is None or BCRYPT.match(hashed) is None:
        raise PermanentFault(f"tenant {tenant!r}: not a name with a bcrypt hash")
    user = _user(tenant_user(tenant), hashed, tenant_permissions(tenant))
    origin = f'account: "{APP_ACCOUNT}", subject:'
    return f"""\
{_text(tenant_account(tenant))} {{
  users: [
{user}
  ]
  imports: [
    {{ service: {{ {origin} {_text(events_pattern(tenant))} }} }}
    {{ stream: {{ {origin} {_text(tenant_facts(tenant))} }} }}
  ]
}}"""


def _user(name: str, password: str, permissions: Permissions) -> str:
    publish = ", ".join(_text(subject) for subject in permissions.publish)
    subscribe = ", ".join(_text(subject) for subject in permissions.subscribe)
    return (
        f'  {{ user: "{name}", password: {_text(password)}, permissions: {{'
        f" publish: {{ allow: [{publish}] }},"
        f" subscribe: {{ allow: [{subscribe}] }} }} }}"
    )


def _text(text: str) -> str:
    if SAFE_TEXT.match(text) is None:
        raise PermanentFault(
            "a NATS password, path or subject has a quote, a backslash or a "
            "character outside ASCII; choose another"
        )
    return f'"{text}"'
