"""Where the embedded platform keeps its files: ``.state/`` of the checkout."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[4]
PRIVATE: Final = 0o600


def default_folder() -> Path:
    """Return ``DE_STATE_DIR`` or the checkout's ``.state``."""
    return Path(os.environ.get("DE_STATE_DIR") or ROOT / ".state").resolve()


@dataclass(frozen=True, slots=True)
class State:
    """The state folder, one property for each file in it."""

    folder: Path = field(default_factory=default_folder)

    @property
    def endpoints(self) -> Path:
        """Where everything answers, and the development tenant's credentials."""
        return self.folder / "endpoints.json"

    @property
    def secrets(self) -> Path:
        """Passwords of NATS users and the admin key; made once."""
        return self.folder / "secrets.json"

    @property
    def tenant(self) -> Path:
        """The development tenant's credentials; made once."""
        return self.folder / "tenant.json"

    @property
    def processes(self) -> Path:
        """What runs now: name, pid and restarts."""
        return self.folder / "processes.json"

    @property
    def supervisor(self) -> Path:
        """The supervisor's pid and start time."""
        return self.folder / "supervisor.json"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.folder / "logs"

    @property
    def traces(self) -> Path:
        """Spans, one file for each process."""
        return self.folder / "traces"

    @property
    def stores(self) -> Path:
        """One SQLite file for each service."""
        return self.folder / "stores"

    @property
    def nats(self) -> Path:
        """The server's configuration and its JetStream store."""
        return self.folder / "nats"

    def make(self) -> None:
        """Create the folders."""
        for folder in (self.logs, self.traces, self.stores, self.nats):
            folder.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a file that only its owner may read; readers see all of it or none."""
    fresh = path.with_suffix(".new")
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "w"
    ) as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    fresh.replace(path)


# JSON from disk is whatever was written there; callers name what they expect.
def read_json(path: Path) -> dict[str, Any] | None:
    """Return a file's object; None when there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
