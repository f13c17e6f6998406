"""The task of a server that looks after alerts beside its requests. May import ``core`` and ``errors``.

Each round reads sums off the event loop and never keeps a request waiting; whatever goes wrong in one is told once, and
the next round comes all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import anyio

from voicegw_mcp.core.alerts import Alerting
from voicegw_mcp.errors import ConfigInvalid, GatewayError

if TYPE_CHECKING:
    from voicegw_mcp.core.gateway import Gateway

logger = logging.getLogger(__name__)

TASK_NAME: Final = "voicegw-alerts"
USUAL_S: Final = 30.0
"""How long to the next round while no configuration is in force."""


class AlertWatch:
    """Goes round in a task of its own, from ``start`` to ``stop``.

    A server that is read-only, or serves one project only, does nothing: it can neither remember what was told nor see everything.

    Args:
        gateway: as it was opened by the command.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._alerting = Alerting(gateway)
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    def start(self, first_after_s: float) -> None:
        """Begin; the first round comes after so many seconds, so that a start waits for nothing."""
        if not self._gateway.store_handle.read_only and self._gateway.caller.access.projects is None:
            self._task = asyncio.create_task(self._go_on(first_after_s), name=TASK_NAME)

    async def stop(self) -> None:
        """End; what was told and not yet sent is sent after the next start. Stopping twice is fine."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                await task

    async def _go_on(self, first_after_s: float) -> None:
        await anyio.sleep(first_after_s)
        while True:
            try:
                await self._alerting.go_round()
                self._trouble = ""
            except GatewayError as error:
                self._tell(error.message)
            except Exception:
                logger.exception("looking after alerts failed")
            await anyio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        try:
            return self._gateway.catalogs.get().settings.alerts.check_every_seconds
        except ConfigInvalid:
            return USUAL_S

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("Alerts wait: %s", trouble)
