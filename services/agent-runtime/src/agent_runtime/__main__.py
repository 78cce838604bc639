"""Start agent-runtime: ``python -m agent_runtime``."""

from messaging.imports import kept_for_life

with kept_for_life():
    import uvloop

    from agent_runtime.app import run
    from agent_runtime.settings import Settings

if __name__ == "__main__":
    # Required fields come from the environment.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
