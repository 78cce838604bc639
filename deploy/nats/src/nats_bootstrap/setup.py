"""First set-up: fresh passwords, and the configuration that knows them."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from determinism import IdSource
from nats_bootstrap.render import render
from nats_bootstrap.topology import ALL_USERS
from nats_bootstrap.users import write_secret

CONFIG_NAME: Final = "nats.conf"
USERS_NAME: Final = "users.conf"
PASSWORDS_NAME: Final = "passwords.json"


def set_up(arguments: Sequence[str], ids: IdSource) -> Path:
    """
    Write configuration, users and passwords into a folder; keep passwords there.

    Returns:
        The path of the main configuration, for ``nats-server -c``.
    """
    parser = argparse.ArgumentParser(prog="nats_bootstrap render")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 -- in a container
    parser.add_argument("--port", type=int, default=4222)
    parser.add_argument("--monitor-port", type=int, default=8222)
    parser.add_argument("--store-dir", default="/data/jetstream")
    parser.add_argument("--sync-interval", default="1s")
    wanted = parser.parse_args(arguments)
    folder: Path = wanted.folder
    folder.mkdir(parents=True, exist_ok=True)
    passwords = read_passwords(folder / PASSWORDS_NAME, ids)
    config, users = render(
        passwords,
        (),
        host=wanted.host,
        port=wanted.port,
        monitor_port=wanted.monitor_port,
        store_dir=wanted.store_dir,
        sync_interval=wanted.sync_interval,
        include_path=USERS_NAME,
    )
    write_secret(folder / CONFIG_NAME, config)
    write_secret(folder / USERS_NAME, users)
    return folder / CONFIG_NAME


def read_passwords(path: Path, ids: IdSource) -> dict[str, str]:
    """Return every user's password; those that the file lacks are drawn and kept."""
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    wanted = {name: known.get(name) or ids.secret() for name in ALL_USERS}
    if wanted != known:
        write_secret(path, json.dumps(wanted, indent=2))
    return wanted
