"""Start the orchestrator: ``python -m orchestrator``."""

from messaging.imports import kept_for_life

with kept_for_life():
    import uvloop

    from orchestrator.app import run
    from orchestrator.settings import Settings

if __name__ == "__main__":
    # The environment gives the fields.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
