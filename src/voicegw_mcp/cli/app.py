"""``voicegw``: the commands by name, and what happens around each of them. May import typer and ``cli``.

A command imports what it works with when it runs: ``voicegw --help`` loads neither the gateway nor mcp.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from voicegw_mcp import __version__
from voicegw_mcp.cli import (
    alerts,
    call,
    failures,
    history,
    importing,
    install,
    reports,
    reprice,
    secrets,
    serving,
    setup,
    store,
    terminal,
)
from voicegw_mcp.cli.standard_streams import open_closed

app = typer.Typer(
    name="voicegw",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("mcp")(serving.mcp)
app.command("serve")(serving.serve)
app.command("init")(setup.init)
app.command("check")(setup.check)
app.command("status")(reports.status)
app.command("costs")(reports.costs)
app.command("logs")(reports.logs)
app.command("projects")(reports.projects)
app.command("changes")(history.changes)
app.command("undo")(history.undo)
app.command("import")(importing.import_store)
app.command("reprice")(reprice.reprice)
app.command("prune")(store.prune)
app.command("backup")(store.backup)
app.command("restore")(store.restore)
app.command("repair")(store.repair)
app.add_typer(alerts.app, name="alerts")
app.add_typer(secrets.app, name="secrets")
app.command("call")(call.call)
app.command("install")(install.install)


@app.callback(invoke_without_command=True)
def voicegw(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False,
) -> None:
    """Manage a voice-AI gateway: its voicegw.yaml, what calls cost, and how slow they were."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``voicegw``; exits with the code of the error table in ``errors``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    open_closed()
    terminal.prepare_streams()
    code = failures.ended(lambda: app(given, prog_name="voicegw", standalone_mode=False), given)
    raise SystemExit(code)
