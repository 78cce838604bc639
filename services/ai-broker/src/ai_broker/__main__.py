"""Start ai-broker: ``python -m ai_broker``."""

from messaging.imports import kept_for_life

with kept_for_life():
    import uvloop

    from ai_broker.app import run
    from ai_broker.settings import Settings

if __name__ == "__main__":
    # The environment gives the fields.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
