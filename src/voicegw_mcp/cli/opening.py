"""The composition root of the commands: opens the gateway, hands it to one piece of work, closes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from voicegw_mcp.cli.stdio import start_problem
from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from voicegw_mcp.core.gateway import Gateway

T = TypeVar("T")


def with_gateway(config: str | None, work: Callable[[Gateway], Awaitable[T]]) -> T:
    """Run ``work`` on the gateway of ``config`` and return what it returned.

    Raises:
        InvalidInput: a configuration file was named that does not exist.
    """
    import anyio  # noqa: PLC0415 - none of this is needed for --help

    from voicegw_mcp.core.gateway import Gateway  # noqa: PLC0415 - likewise

    require_named(config)

    async def run() -> T:
        gateway = Gateway.open(config, door="cli")
        try:
            return await work(gateway)
        finally:
            with anyio.CancelScope(shield=True):
                await gateway.close()

    return anyio.run(run)


def require_named(config: str | None) -> None:
    """Refuse a configuration file that was named and does not exist."""
    problem = start_problem(config, os.environ)
    if problem:
        raise InvalidInput(f"{problem[0].upper()}{problem[1:]}", field="config")
