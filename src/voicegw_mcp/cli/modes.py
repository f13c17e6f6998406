"""What a server may do and offer, the same for every way to start one: read-only, one project, some tools.

``voicegw-mcp`` must start fast and keeps its standard output clean: standard library only, until a mode is put in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.tools.define import Tool


class Option(NamedTuple):
    """One option: the field of ``Mode`` it fills. Without ``metavar`` it is a switch; ``listed`` ones may be repeated."""

    field: str
    metavar: str
    listed: bool
    help: str

    @property
    def flag(self) -> str:
        """What is written on the command line."""
        return f"--{self.field.replace('_', '-')}"


OPTIONS: Final = (
    Option(
        "read_only",
        "",
        False,
        "offer only tools that read; neither the file nor the store is opened for writing",
    ),
    Option("project", "ID", False, "serve this one project; no tool takes or shows another"),
    Option(
        "toolsets",
        "NAMES",
        True,
        "more tools, by name with commas between: history (list changes and undo them), or all",
    ),
    Option("tools", "NAMES", True, "offer only these tools, of every toolset"),
    Option("exclude_tools", "NAMES", True, "never offer these tools, whatever else is asked for"),
)


@dataclass(frozen=True, slots=True)
class Mode:
    """What was asked for on the command line. Lists hold names with commas between."""

    read_only: bool = False
    project: str | None = None
    toolsets: Sequence[str] = ()
    tools: Sequence[str] = ()
    exclude_tools: Sequence[str] = ()

    def choose_tools(self) -> tuple[Tool, ...]:
        """Return the tools to offer; reads no file.

        Raises:
            InvalidInput: a name is unknown, or nothing is left to offer.
        """
        from voicegw_mcp.tools import choose_tools  # noqa: PLC0415 - see the module docstring

        chosen = choose_tools(
            self.toolsets, only=self.tools, without=self.exclude_tools, read_only=self.read_only
        )
        return chosen if self.project is None else tuple(tool.pinned(self.project) for tool in chosen)

    def open_gateway(self, config: str | None, door: str) -> Gateway:
        """Return a gateway for callers who may do what this mode allows, and no more.

        Raises:
            InvalidInput: there is no such project.
            ConfigInvalid: the file is broken, so that nothing is known of the project.
        """
        from voicegw_mcp.core.access import Access  # noqa: PLC0415 - see the module docstring
        from voicegw_mcp.core.gateway import Gateway  # noqa: PLC0415 - likewise

        if self.project is None:
            return Gateway.open(config, door=door, read_only=self.read_only)
        access = Access(projects=frozenset({self.project}))
        gateway = Gateway.open(config, door=door, access=access, read_only=self.read_only)
        _require_project(gateway, self.project)
        return gateway


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of a mode."""
    for option in OPTIONS:
        if option.listed:
            parser.add_argument(
                option.flag, metavar=option.metavar, action="append", default=[], help=option.help
            )
        elif option.metavar:
            parser.add_argument(option.flag, metavar=option.metavar, help=option.help)
        else:
            parser.add_argument(option.flag, action="store_true", help=option.help)


def _require_project(gateway: Gateway, project: str) -> None:
    from voicegw_mcp.errors import InvalidInput, nearest, quote  # noqa: PLC0415 - see the module docstring

    if not project.strip():
        raise InvalidInput("--project names no project.", field="project", hint="Name one, or leave it out.")
    # Not the caller's own view of it: that holds no other names to offer.
    known = gateway.catalogs.get().projects
    if project not in known:
        near = nearest(project, known, count=1)
        raise InvalidInput(
            f"There is no project {quote(project)} in {gateway.config_file.path}.",
            field="project",
            hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(list(known)[:20])}.",
            details={"nearest": near},
        )
