"""The commands by noun."""

import typer

from cli import (
    budgets,
    deadletters,
    employees,
    events,
    health,
    ledger,
    prices,
    tasks,
    trace,
    triggers,
    vendors,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help=(
        "Hand tasks to digital employees and see what came of them. Talks to the "
        "platform that ./just up started, or to DE_URL with DE_API_KEY."
    ),
)
app.add_typer(tasks.app, name="task")
app.add_typer(events.app, name="event")
app.add_typer(employees.app, name="employee")
app.add_typer(triggers.app, name="trigger")
app.add_typer(budgets.app, name="budget")
app.add_typer(prices.app, name="prices")
app.add_typer(deadletters.app, name="deadletter")
app.add_typer(vendors.app, name="vendor")
app.command("health")(health.show_health)
app.command("ledger")(ledger.show_ledger)
app.command("trace")(trace.show_trace)
