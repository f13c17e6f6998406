"""One whole agent conversation over real stdio, on a scratch gateway: what `make demo` shows.

The official MCP client spawns `voicegw-mcp`, lists the tools, adds a provider, a model and a project, imports a VoiceGateway
store, asks for costs and logs, and deletes again with confirmation. Nothing outside a temporary folder is touched.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SAMPLE = ROOT / "tests" / "data" / "voicegateway-0.4.0.db"
console = Console(width=110, highlight=False)


async def call(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """Call a tool and print the call with what matters of its answer."""
    result = await client.call_tool(tool, arguments)
    answer: dict[str, Any] = result.structured_content or {}
    console.print(f"\n[bold cyan]{tool}[/] {json.dumps(arguments)}", soft_wrap=True)
    if result.is_error:
        error = answer["error"]
        console.print(
            f"  [yellow]{error['code']}[/]: ", error["message"], sep="", markup=True, soft_wrap=True
        )
        console.print("  next: ", error.get("hint", ""), sep="", markup=False, soft_wrap=True)
    elif answer.get("diff"):
        console.print(f"  change {answer['change_id']}, config_version {answer['config_version']}")
        console.print(Syntax(answer["diff"].rstrip(), "diff", background_color="default"))
    else:
        shown = {
            key: value
            for key, value in answer.items()
            if not isinstance(value, list | dict) or len(value) < 4
        }
        console.print("  ", json.dumps(shown, ensure_ascii=False)[:600], sep="", markup=False, soft_wrap=True)
    return answer


def cost_table(report: dict[str, Any]) -> Table:
    """Return the costs by model, dearest first."""
    table = Table(
        title=f"Costs {report['start'][:10]} to {report['end'][:10]}: {report['total_usd']:.6f} USD"
    )
    table.add_column("model")
    table.add_column("requests", justify="right")
    table.add_column("USD", justify="right")
    for model, entry in report["by_model"].items():
        table.add_row(model, f"{entry['requests']:,}", f"{entry['cost']:.6f}")
    return table


async def converse(config: Path, environment: dict[str, str]) -> None:
    """Hold the conversation."""
    server = StdioServerParameters(
        command=str(BIN / "voicegw-mcp"), args=["stdio", "--config", str(config)], env=environment
    )
    async with Client(server) as client:
        tools = (await client.list_tools()).tools
        console.print(f"[bold]{len(tools)} tools[/]: {', '.join(tool.name for tool in tools)}")
        await call(client, "get_health")
        await call(
            client,
            "add_provider",
            provider_id="deepgram-eu",
            provider_type="deepgram",
            base_url="https://api.eu.deepgram.com",
        )
        await call(client, "test_provider", provider_id="deepgram-eu")
        await call(
            client,
            "register_model",
            modality="stt",
            provider_id="deepgram-eu",
            model_name="nova-3",
            default_language="de",
        )
        await call(
            client,
            "create_project",
            project_id="clinic",
            name="Clinic Nord",
            daily_budget=12.5,
            budget_action="block",
            stt_model="deepgram-eu/nova-3",
        )
        await call(client, "create_project", project_id="clinic", name="Once more")

        console.print(f"\n[bold cyan]$ voicegw import {SAMPLE.name} --yes[/]")
        await anyio.run_process(
            [str(BIN / "voicegw"), "import", str(SAMPLE), "--yes", "-c", str(config)],
            env=environment,
            stdout=None,
            stderr=None,
        )

        console.print(cost_table(await call(client, "get_costs", period="all")))
        await call(client, "get_logs", status="error", limit=2)
        await call(client, "delete_provider", provider_id="deepgram-eu")
        await call(client, "delete_provider", provider_id="deepgram-eu", confirm=True, cascade=True)
        await call(client, "delete_project", project_id="clinic", confirm=True)


def main() -> None:
    """Make the scratch gateway, talk, and compare the file with what it was."""
    with tempfile.TemporaryDirectory(prefix="voicegw-demo-") as folder:
        config = Path(folder) / "voicegw.yaml"
        before = (ROOT / "voicegw.example.yaml").read_text(encoding="utf-8")
        config.write_text(before, encoding="utf-8")
        kept = {
            name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG", "TERM") if name in os.environ
        }
        environment = {**kept, "HOME": folder, "VOICEGW_DB_PATH": str(Path(folder) / "voicegw.db")}
        anyio.run(converse, config, environment)
        console.print(
            "\n[bold]What all of it changed in voicegw.yaml[/] (the imported entries; the rest is as it was):"
        )
        after = config.read_text(encoding="utf-8")
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=1
        )
        console.print(Syntax("\n".join(lines), "diff", background_color="default"))


if __name__ == "__main__":
    main()
