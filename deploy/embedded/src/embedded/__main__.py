"""Start the embedded platform's command line: ``python -m embedded up``."""

from messaging.imports import kept_for_life

with kept_for_life():
    from embedded.commands import app

if __name__ == "__main__":
    app(prog_name="just")
