"""Generates what is said about the tools from the tools: tools.md, the README's table, one golden file a tool.

``python -m voicegw_mcp.tools.render`` writes them, ``--check`` fails on a difference. Run in a checkout.
May import ``tools``; standard library else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.tools import TOOLS, TOOLSETS
from voicegw_mcp.tools.prompts import PROMPTS
from voicegw_mcp.tools.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voicegw_mcp.tools.define import Tool

BEGIN: Final = "<!-- tools: begin (make golden) -->"
END: Final = "<!-- tools: end -->"
GROUPS: Final = ("observe", "providers", "models", "projects")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated files, or with ``--check`` name those that differ; return the exit code."""
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    wrong = 0
    for path, text in generated(Path.cwd()):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        wrong += 1
        if check:
            sys.stderr.write(
                f"{path.relative_to(Path.cwd())} is not what the code says: run `make golden`.\n"
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            sys.stdout.write(f"wrote {path.relative_to(Path.cwd())}\n")
    return 1 if check and wrong else 0


def generated(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every generated file of the checkout at ``root`` with the text it should have."""
    yield root / "tools.md", render_page()
    readme = root / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    yield readme, f"{before}{BEGIN}\n{render_table()}{END}{rest.partition(END)[2]}"
    for tool in (tool for tools in TOOLSETS.values() for tool in tools):
        golden = json.dumps(described(tool), indent=2, ensure_ascii=False)
        yield root / "tests" / "golden" / "tools" / f"{tool.name}.json", f"{golden}\n"


def described(tool: Tool) -> dict[str, Any]:
    """Return everything a host learns about a tool."""
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "annotations": {
            "readOnlyHint": tool.read_only,
            "destructiveHint": tool.destructive,
            "idempotentHint": tool.idempotent,
            "openWorldHint": tool.open_world,
        },
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
    }


def render_table() -> str:
    """Return the README's table: one line a tool."""
    lines = ["| tool | what it does | kind |", "|---|---|---|"]
    lines += [
        f"| [`{tool.name}`](tools.md#{tool.name}) | {_first_line(tool)} | {_kind(tool)} |" for tool in TOOLS
    ]
    return "\n".join(lines) + "\n"


def render_page() -> str:
    """Return tools.md."""
    parts = [
        "# The seventeen tools",
        (
            "Made from the code by `make golden`; do not edit. Arguments with `?` may be left out. Every failure has the "
            'shape `{"error": {"code", "message", "hint", "details"}}`; the codes are in [docs/errors.md](docs/errors.md).'
        ),
        render_table().rstrip(),
    ]
    for group in GROUPS:
        tools = [tool for tool in TOOLS if tool.run.__module__.endswith(f".{group}")]
        parts.append(f"## {group.capitalize()}")
        parts += [_render_tool(tool) for tool in tools]
    for name, tools in TOOLSETS.items():
        if name != "core":
            parts.append(f"## Toolset {name}")
            parts.append(
                f"Listed only by a server that was started with `voicegw-mcp --toolsets {name}` (several names with commas "
                "between): each tool is sent to a model in every conversation. The tools above are always there."
            )
            parts += [_render_tool(tool) for tool in tools]
    parts.append("## Resources")
    parts.append(
        "\n".join(
            f"* `{item.template if item.parameter else item.uri}`: {item.description}" for item in RESOURCES
        )
    )
    parts.append("## Prompts")
    parts.append(
        "\n".join(
            f"* `{item.name}({', '.join(part.name + ('' if part.required else '?') for part in item.arguments)})`: "
            f"{item.description}"
            for item in PROMPTS
        )
    )
    return "\n\n".join(parts) + "\n"


def _render_tool(tool: Tool) -> str:
    schema = tool.input_schema
    required = set(schema.get("required", []))
    rows = [
        f"| `{name}{'' if name in required else '?'}` | {_type(part)} | {_cell(part)} |"
        for name, part in schema.get("properties", {}).items()
    ]
    arguments = "\n".join(["| argument | type | |", "|---|---|---|", *rows]) if rows else "No arguments."
    answer = ", ".join(f"`{name}`" for name in tool.output_schema.get("properties", {}))
    return f"### {tool.name}\n\n{tool.description}\n\n*{_kind(tool)}*\n\n{arguments}\n\nAnswer: {answer}"


def _first_line(tool: Tool) -> str:
    return tool.description.partition("\n")[0]


def _kind(tool: Tool) -> str:
    kind = "read" if tool.read_only else "write, destructive" if tool.destructive else "write"
    return f"{kind}, asks the provider" if tool.open_world else kind


def _type(part: dict[str, Any]) -> str:
    choices = part.get("enum") or ([part["const"]] if "const" in part else [])
    if choices:
        return " ".join(f"`{choice}`" for choice in choices)
    if part.get("type") == "array":
        return f"list of {part['items'].get('type', 'any')}"
    return str(part.get("type", "any"))


def _cell(part: dict[str, Any]) -> str:
    notes = [part["description"]] if "description" in part else []
    limits = [
        f"{word} {part[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in part
    ]
    notes += [" ".join(limits)] if limits else []
    notes += [f"default `{json.dumps(part['default'])}`"] if "default" in part else []
    return "; ".join(notes).replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
