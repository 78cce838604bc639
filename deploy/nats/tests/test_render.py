"""The rendered configuration is valid, and refuses what it cannot write."""

import json
import subprocess
from pathlib import Path

import bcrypt
import pytest

from determinism import SeededIds
from faults import PermanentFault
from nats_bootstrap.render import render, tenants_in, with_tenants
from nats_bootstrap.setup import set_up
from nats_bootstrap.topology import ALL_USERS
from testkit.nats_server import server_binary

PASSWORDS = dict.fromkeys(ALL_USERS, "a-password")
HASH = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()


def test_the_real_server_finds_the_configuration_valid(tmp_path: Path) -> None:
    """``nats-server -t`` accepts both files, also in a folder with a space."""
    folder = tmp_path / "with space"
    path = set_up([str(folder), "--store-dir", str(folder / "js")], SeededIds(1))
    users = folder / "users.conf"
    users.write_text(with_tenants(users.read_text(), [("acme", HASH)]))
    done = subprocess.run(
        [server_binary(), "-c", str(path), "-t"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stderr + done.stdout


def test_set_up_keeps_passwords_and_hides_them(tmp_path: Path) -> None:
    """A second set-up changes no password; files are their owner's alone."""
    set_up([str(tmp_path)], SeededIds(1))
    before = json.loads((tmp_path / "passwords.json").read_text())
    set_up([str(tmp_path)], SeededIds(2))
    assert json.loads((tmp_path / "passwords.json").read_text()) == before
    for name in ("passwords.json", "users.conf", "nats.conf"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_tenants_are_replaced_and_services_stay() -> None:
    """Rewriting tenants keeps the services' part byte for byte."""
    _, text = render(
        PASSWORDS, [("old", HASH)], port=1, store_dir="/js", include_path="users.conf"
    )
    changed = with_tenants(text, [("beta", HASH), ("alpha", HASH)])
    assert tenants_in(changed) == (("alpha", HASH), ("beta", HASH))
    assert with_tenants(changed, [("old", HASH)]) == text


def test_a_tenant_is_in_an_account_of_its_own() -> None:
    """The services' account names each tenant's account for its own subjects only."""
    config, text = render(
        PASSWORDS,
        [("alpha", HASH), ("beta", HASH)],
        port=1,
        store_dir="/js",
        include_path="users.conf",
    )
    assert "tenant-" not in config
    services, tenants = text.split("\n}\n", 1)
    assert "tenant-" not in services
    for name in ("alpha", "beta"):
        to = f'accounts: ["TENANT_{name}"]'
        assert f'{{ service: "events.{name}.>", {to} }}' in services
        assert f'{{ stream: "evt.orchestrator.task.{name}.>", {to} }}' in services
        assert f'"TENANT_{name}" {{\n  users: [\n  {{ user: "tenant-{name}"' in tenants
    assert "jetstream" not in tenants


def test_a_file_with_tenants_among_the_services_hands_them_over() -> None:
    """An older version's file still names its tenants; it is not rewritten itself."""
    text = f"""\
users: [
  {{ user: "gateway", password: "x", permissions: {{ }} }}
  # Tenants: everything below is rewritten by nats_bootstrap.
  {{ user: "tenant-acme", password: "{HASH}", permissions: {{ }} }}
]
"""
    assert tenants_in(text) == (("acme", HASH),)
    with pytest.raises(PermanentFault, match="render it anew"):
        with_tenants(text, [("acme", HASH)])


def test_a_user_without_a_password_is_refused() -> None:
    """Nobody gets an empty password by omission."""
    with pytest.raises(PermanentFault, match="gateway"):
        render({"sys": "x"}, (), port=1, store_dir="/js", include_path="users.conf")


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a\nb", ""])
def test_a_password_that_would_break_out_is_refused(password: str) -> None:
    """No password can write configuration of its own."""
    with pytest.raises(PermanentFault):
        render(
            {**PASSWORDS, "gateway": password},
            (),
            port=1,
            store_dir="/js",
            include_path="users.conf",
        )


@pytest.mark.parametrize(
    "tenant", [("Acme", HASH), ("a.b", HASH), ("acme", "plain"), ('a"', HASH)]
)
def test_a_tenant_that_would_break_out_is_refused(tenant: tuple[str, str]) -> None:
    """A tenant's name is a subject token, and its secret a bcrypt hash."""
    with pytest.raises(PermanentFault):
        render(PASSWORDS, [tenant], port=1, store_dir="/js", include_path="users.conf")
