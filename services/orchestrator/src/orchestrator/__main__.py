"""Start the orchestrator: ``python -m orchestrator``."""

import uvloop

from orchestrator.app import run
from orchestrator.settings import Settings

if __name__ == "__main__":
    # The environment gives the fields.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
