"""What runs, in which order, with which settings."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.subjects import Service
from embedded.ports import HOST, Ports
from embedded.process import Command
from embedded.secrets import KEK
from embedded.state import ROOT, State
from nats_bootstrap.topology import SYSTEM_USER

SERVICES: Final = (
    Service.GATEWAY,
    Service.ORCHESTRATOR,
    Service.AGENT_RUNTIME,
    Service.AI_BROKER,
    Service.BILLING_METER,
)
NATS_PORT: Final = 4222
MONITOR_PORT: Final = 8222
SANDBOX_PORT: Final = 8600
API_PORT: Final = 8000
FACE_PORT: Final = 9000


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service."""

    service: Service
    number: int
    face_port: int
    api_port: int | None

    @property
    def name(self) -> str:
        """Return ``gateway``, or ``gateway-2`` for the second."""
        return self.service if self.number == 1 else f"{self.service}-{self.number}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The ports and replicas of one run."""

    nats_port: int
    monitor_port: int
    sandbox_port: int
    replicas: tuple[Replica, ...]

    @property
    def nats_url(self) -> str:
        """Return where NATS listens."""
        return f"nats://{HOST}:{self.nats_port}"

    @property
    def sandbox_url(self) -> str:
        """Return where the sandbox vendor listens."""
        return f"http://{HOST}:{self.sandbox_port}"

    @property
    def gateway_url(self) -> str:
        """Return the first gateway's API."""
        first = next(each for each in self.replicas if each.api_port is not None)
        return f"http://{HOST}:{first.api_port}"


def make_plan(replica_count: int, held: Ports) -> Plan:
    """Choose free ports for everything."""
    pick = held.pick
    nats_port, monitor_port = pick(NATS_PORT), pick(MONITOR_PORT)
    sandbox_port = pick(SANDBOX_PORT)
    replicas = tuple(
        Replica(
            service=service,
            number=number,
            face_port=pick(FACE_PORT),
            api_port=pick(API_PORT) if service is Service.GATEWAY else None,
        )
        for service in SERVICES
        for number in range(1, replica_count + 1)
    )
    return Plan(nats_port, monitor_port, sandbox_port, replicas)


def commands(plan: Plan, secrets: Mapping[str, str], state: State) -> list[Command]:
    """Return everything to run; NATS first."""
    return [
        nats_command(state),
        bootstrap_command(plan, secrets, state),
        sandbox_command(plan, state),
        *(service_command(each, plan, secrets, state) for each in plan.replicas),
    ]


def nats_command(state: State) -> Command:
    """Run nats-server on the rendered configuration."""
    server = str(Path(sys.executable).parent / "nats-server")
    config = str(state.nats / "nats.conf")
    return Command("nats", (server, "--config", config), folder=state.nats)


def bootstrap_command(plan: Plan, secrets: Mapping[str, str], state: State) -> Command:
    """Run the bootstrap that keeps streams, durables and users."""
    environment = {
        "BOOTSTRAP_NATS_URL": plan.nats_url,
        "BOOTSTRAP_NATS_USER": Service.BOOTSTRAP.value,
        "BOOTSTRAP_NATS_PASSWORD": secrets[Service.BOOTSTRAP],
        "BOOTSTRAP_SYS_PASSWORD": secrets[SYSTEM_USER],
        "BOOTSTRAP_INCLUDE_PATH": str(state.nats / "users.conf"),
        "BOOTSTRAP_TRACE_FILE": str(state.traces / "bootstrap.jsonl"),
    }
    return _python("bootstrap", "nats_bootstrap", environment)


def sandbox_command(plan: Plan, state: State) -> Command:
    """Run the sandbox vendor."""
    arguments = (
        *("--host", HOST, "--port", str(plan.sandbox_port)),
        *("--ledger", str(state.folder / "sandbox-ledger.jsonl")),
    )
    return _python("sandbox", "sandbox", {}, *arguments)


def service_command(
    replica: Replica, plan: Plan, secrets: Mapping[str, str], state: State
) -> Command:
    """Run one replica of a service."""
    service = replica.service
    store = state.stores / f"{service}.db"
    settings = {
        "DATABASE_URL": f"sqlite:///{store}",
        "NATS_URL": plan.nats_url,
        "NATS_USER": service.value,
        "NATS_PASSWORD": secrets[service],
        "HTTP_HOST": HOST,
        "HTTP_PORT": str(replica.face_port),
        "TRACE_FILE": str(state.traces / f"{replica.name}.jsonl"),
        "APP_ENV": "development",
    }
    if replica.api_port is not None:
        settings["API_HOST"] = HOST
        settings["API_PORT"] = str(replica.api_port)
        settings["ADMIN_KEY"] = secrets["admin_key"]
    if service is Service.BILLING_METER:
        settings["PRICE_FOLDER"] = str(state.folder / "prices")
    if service is Service.AI_BROKER:
        settings["SANDBOX_URL"] = plan.sandbox_url
        settings["KEK"] = secrets[KEK]
    package = service.replace("-", "_")
    prefix = package.upper()
    environment = {f"{prefix}_{name}": value for name, value in settings.items()}
    return _python(replica.name, package, environment)


def _python(
    name: str, package: str, environment: Mapping[str, str], *arguments: str
) -> Command:
    command = (sys.executable, "-m", package, *arguments)
    return Command(name, command, environment, folder=ROOT)
