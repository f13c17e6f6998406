"""The floor of a reading call: the SQL it runs, run again by plain ``sqlite3`` and nothing around it.

The call is made in process, with every connection traced; what the trace says is then timed apart from the server: one
connection with the server's cache size, statements with their values in them, all rows fetched.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from reading_calls import Call

CACHE_KIB = 16_000
"""As much as the server's reader keeps."""


def statements_of(calls: Sequence[Call], environment: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the SELECTs of each call, in the order of the calls, when it is not the first of its process."""
    return anyio.run(_statements_of, calls, {**os.environ, **environment})


async def _statements_of(calls: Sequence[Call], environment: Mapping[str, str]) -> list[tuple[str, ...]]:
    by_name = {tool.name: tool for tool in TOOLS}
    seen: list[str] = []
    found: list[tuple[str, ...]] = []
    with _traced(seen):
        gateway = Gateway.open(environment["VOICEGW_CONFIG"], door="benchmark", environment=environment)
        try:
            for call in calls:
                tool = by_name[call.tool]
                for _ in range(2):
                    seen.clear()
                    await tool.run(gateway, tool.parse(call.arguments))
                found.append(tuple(sql for sql in seen if sql.lstrip().startswith(("SELECT", "WITH"))))
        finally:
            await gateway.close()
    return found


@contextmanager
def _traced(seen: list[str]) -> Iterator[None]:
    """Append every statement of connections opened meanwhile to ``seen``."""
    opened = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = opened(*args, **options)
        connection.set_trace_callback(seen.append)
        return connection

    sqlite3.connect = connect
    try:
        yield
    finally:
        sqlite3.connect = opened


class PlainReader:
    """A plain connection to a store, for reading."""

    def __init__(self, store: Path) -> None:
        self._connection = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, isolation_level=None)
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    def timed(self, statements: Sequence[str], count: int) -> list[float]:
        """Run the statements ``count`` times in one read transaction each; return how long each time took in ms."""
        took: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            self._connection.execute("BEGIN")
            for sql in statements:
                with closing(self._connection.execute(sql)) as cursor:
                    cursor.fetchall()
            self._connection.execute("COMMIT")
            took.append((time.perf_counter() - began) * 1000)
        return took

    def close(self) -> None:
        """Close it."""
        self._connection.close()
