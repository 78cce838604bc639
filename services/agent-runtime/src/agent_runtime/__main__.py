"""Start agent-runtime: ``python -m agent_runtime``."""

import uvloop

from agent_runtime.app import run
from agent_runtime.settings import Settings

if __name__ == "__main__":
    # Required fields come from the environment.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
