"""A gateway with alerts in a folder of its own, a clock that is set by hand, and rows that are over thresholds."""

import asyncio
from functools import partial
from itertools import count

from tests.factories import NOW, request_record
from tests.webhook_receiver import SECRET

from voicegw_mcp.core.alerts import Alerting, newest
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.domain import RequestStatus
from voicegw_mcp.store.requests import insert_requests

USD = 10**9
_IDS = count()


class Scene:
    """One process: further ones on the same folder are made by ``another``."""

    def __init__(self, folder, now=NOW, environment=None):
        self.folder = folder
        self.now = now
        self.environment = {
            "VOICEGW_DB_PATH": str(folder / "voicegw.db"),
            "HOOK": SECRET,
            **(environment or {}),
        }
        self.gateway = Gateway.open(
            str(folder / "voicegw.yaml"), door="test", environment=self.environment, now_ms=lambda: self.now
        )
        self.alerting = Alerting(self.gateway, chance=lambda: 0.5)

    def another(self, **environment):
        return Scene(self.folder, self.now, environment)

    def write(self, text, receiver=None):
        """Write the file; with a receiver alerts go there."""
        if receiver is not None:
            hook = f"  webhook: {{url: '{receiver.url}', secret: '${{HOOK}}'}}\n"
            text = (
                text.replace("alerts:\n", f"alerts:\n{hook}")
                if "alerts:\n" in text
                else f"{text}alerts:\n{hook}"
            )
            text += "security: {allow_private_hosts: [127.0.0.1]}\n"
        self.gateway.config_file.path.write_text(text)

    async def log(self, *records):
        store = await self.gateway.store_handle.get()
        await store.write(partial(insert_requests, records=records))

    async def spend(self, usd, project="p0", **fields):
        cost = round(usd * USD)
        await self.log(
            request_record(
                **{
                    "id": f"r{next(_IDS)}",
                    "timestamp_ms": self.now,
                    "project": project,
                    "cost_nanousd": cost,
                    **fields,
                }
            )
        )

    async def requests(self, number, *, failed=0, ttfb_ms=None, **fields):
        await self.log(
            *(
                request_record(
                    **{
                        "id": f"r{next(_IDS)}",
                        "timestamp_ms": self.now,
                        "status": RequestStatus.ERROR if place < failed else RequestStatus.SUCCESS,
                        "ttfb_ms": ttfb_ms,
                        **fields,
                    }
                )
                for place in range(number)
            )
        )

    async def round(self):
        await self.alerting.go_round()

    async def told(self):
        """Return event and message of every alert, oldest first."""
        found = await (await self.gateway.reader()).ask(newest, limit=2000)
        return [(alert.event, alert.message) for alert in reversed(found)]

    async def rows(self):
        return (await (await self.gateway.reader()).ask(newest, limit=2000))[::-1]

    async def close(self):
        await self.gateway.close()


async def together(*work):
    return await asyncio.gather(*work)
