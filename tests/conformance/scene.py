"""A gateway in a folder of its own, and servers of it as real processes on loopback ports, ended by their own process id."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import CONFIG, KEY, LineServer
from tests.npm import BIN

STOPPED_S = 20


@dataclass
class Server:
    """A running server, where it is reached, and the line it printed for Claude Code."""

    process: subprocess.Popen[bytes]
    mcp: str
    sse: str
    added: str
    errors: Path

    @property
    def port(self) -> int:
        return int(self.mcp.split(":")[2].partition("/")[0])

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOPPED_S)


@dataclass
class Scene:
    """A folder that is the home, the configuration and the store of one gateway.

    Args:
        folder: an empty one.
        token: what clients have to send, None to ask for nothing.
    """

    folder: Path
    token: str | None = None

    def __post_init__(self) -> None:
        self.file.write_text(CONFIG, encoding="utf-8")

    @property
    def file(self) -> Path:
        return self.folder / "voicegw.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of servers and clients: nothing of this user, of ours what coverage measures by."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        asked = {"VOICEGW_MCP_TOKEN": self.token} if self.token else {}
        return {
            **kept,
            **asked,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "VOICEGW_CONFIG": str(self.file),
            "VOICEGW_DB_PATH": str(self.folder / "voicegw.db"),
            "DEEPGRAM_API_KEY": KEY,
        }

    @contextmanager
    def served(self, *options: str) -> Iterator[Server]:
        """Run ``voicegw serve`` for the length of the block."""
        server = self.start(*options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.end()

    def start(self, *options: str) -> Server:
        """Start ``voicegw serve`` on a free port and return once it takes requests; the caller ends it."""
        errors = self.folder / "stderr.txt"
        with errors.open("ab") as stream:
            process = subprocess.Popen(
                [str(BIN / "voicegw"), "serve", "-p", "0", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                cwd=self.folder,
                env=self.environment,
            )
        lines = LineServer(process)
        told = [lines.line().decode()]
        while "claude mcp add" not in told[-1]:
            if not told[-1]:
                raise RuntimeError(errors.read_text(encoding="utf-8"))
            told.append(lines.line().decode())
        process.stdout.close()
        reached = {url.rsplit("/", 1)[1]: url for line in told for url in line.split()[:1] if "://" in url}
        return Server(process, reached["mcp"], reached["sse"], told[-1].strip(), errors)
