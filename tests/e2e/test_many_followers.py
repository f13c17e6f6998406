"""A thousand clients that follow the log of one server over real HTTP."""

# ruff: noqa: F811 - serve, stop and record are fixtures of other modules

import asyncio
import re
import resource
from contextlib import contextmanager
from urllib.parse import urlsplit

import anyio
import pytest
from tests.e2e.conftest import WAIT_S
from tests.e2e.test_api import record  # noqa: F401 - a fixture
from tests.e2e.test_http import TOKEN, http, serve, stop  # noqa: F401 - two are fixtures
from tests.factories import request_record

FOLLOWERS = 1000
FEW_FILES = 512
"""What the server may have open when it starts. Shells and systemd say 1,024, and let a program ask for more."""
MANY_FILES = 4096
ROWS = 3


@contextmanager
def open_files(most):
    """Let this process, and what it starts meanwhile, have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def follow(base):
    """Open a stream; return what reads it, at its beginning."""
    place = urlsplit(base)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(
        f"GET /v1/logs?detail=concise HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b": following\n\n")
    return reader, writer


async def told(reader):
    """Return the ids of the rows that a stream tells of, up to the last one."""
    text = await reader.readuntil(f'"id":"row-{ROWS - 1}"'.encode())
    return re.findall(rb'"id":"(row-\d+)"', text)


@pytest.mark.skipif(
    0 < resource.getrlimit(resource.RLIMIT_NOFILE)[1] < MANY_FILES,
    reason="a program may have few files open here",
)
def test_a_thousand_follow_the_log_and_each_is_told_of_every_row_once(serve, stop, record):
    with open_files(FEW_FILES):
        server = serve(VOICEGW_MCP_TOKEN=TOKEN)

    async def all_follow():
        async with asyncio.timeout(WAIT_S):
            streams = [await follow(server.base) for _ in range(FOLLOWERS)]
            await anyio.to_thread.run_sync(follow_and_record)
            found = await asyncio.gather(*(told(reader) for reader, _ in streams))
            for _, writer in streams:
                writer.transport.abort()
        return found

    def follow_and_record():
        with http(TOKEN) as client:
            metrics = client.get(f"{server.base}/v1/metrics").text
            assert f"voicegw_log_followers {FOLLOWERS}\n" in metrics
        for number in range(ROWS):
            record(request_record(id=f"row-{number}"))

    with open_files(MANY_FILES):
        assert asyncio.run(all_follow()) == [[f"row-{number}".encode() for number in range(ROWS)]] * FOLLOWERS
    assert stop(server) == 0
