"""``voicegw alerts``: the rules with their state and the newest alerts, and a test of the webhook.

May import typer, ``core`` and ``cli``.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config

if TYPE_CHECKING:
    from voicegw_mcp.core.alerts import AlertsView

MOST: int = 1000

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Show the rules of alerts and what was told; test the webhook.",
)


@app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=MOST, help="Alerts at most, 1 to 1000.")
    ] = 20,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the rules of alerts with what is over its threshold, and the newest alerts."""
    if context.invoked_subcommand is not None:
        if config is not None or as_json:  # they would be passed over in silence
            raise typer.BadParameter(f"write the options behind {context.invoked_subcommand}")
        return
    from voicegw_mcp.core.alerts import view  # noqa: PLC0415 - loaded when the command runs

    found = with_gateway(config, lambda gateway: view(gateway, limit=limit))
    if as_json:
        terminal.print_json(found.as_json())
    else:
        _show(found)


@app.command("test")
def send_event(config: Config = None, as_json: AsJson = False) -> None:
    """Send a test event to the webhook and tell what it answered.

    Exit code 0 when it took the event, 1 when it did not, 2 when there is no webhook or no secret.
    """
    from voicegw_mcp.core.alerts import send_test  # noqa: PLC0415 - as in alerts()

    outcome = with_gateway(config, send_test)
    if as_json:
        terminal.print_json({"sent": True, "status": outcome.status, "message": outcome.message})
    else:
        terminal.print_line(outcome.message)


def _show(found: "AlertsView") -> None:
    from voicegw_mcp.cli.tables import moment  # noqa: PLC0415 - as in alerts()

    if not found.enabled:
        terminal.print_line("Alerts are off (alerts.enabled).")
    elif not found.rules:
        terminal.print_line(
            "There is nothing to tell of: no project has a daily_budget, and no rate is watched."
        )
    for rule in found.rules:
        terminal.print_line(f"{rule.rule}: {rule.text}", style="bold")
        for over in rule.over:
            terminal.print_line(f"  over: {over.subject} since {over.since}", style="red")
    terminal.print_line(f"webhook: {found.webhook or 'none'}")
    if not found.alerts:
        terminal.print_line("No alert yet.")
        return
    terminal.print_line()
    terminal.print_table(
        [
            terminal.Column("Alert", 3),
            terminal.Column("When (UTC)", 1),
            terminal.Column("Event"),
            terminal.Column("Webhook", 2),
            terminal.Column("Message", fills=True),
        ],
        [
            (alert.id, moment(alert.created), alert.event, alert.delivery, alert.message)
            for alert in found.alerts
        ],
    )
