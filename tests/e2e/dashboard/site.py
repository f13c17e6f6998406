"""Gateways for the dashboard's tests: real ``voicegw serve`` processes on stores with traffic of the last 30 days."""

import contextlib
import importlib.util
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from voicegw_mcp.domain import RequestStatus
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare

VOICEGW = Path(sys.executable).parent / "voicegw"
TRAFFIC = Path(__file__).resolve().parents[3] / "benchmarks" / "traffic.py"
TOKEN = "fake-token-0001"
WAIT_S = 30
ROWS = 5_000
DEARER = 15
"""So few rows stand for more: their costs are multiplied, so that a day costs dollars."""


def traffic():
    """Return the module that makes the benchmarks' calls."""
    spec = importlib.util.spec_from_file_location("dashboard_traffic", TRAFFIC)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def afternoon():
    """Return the whole hours by which a time zone is ahead of UTC in which it is about three in the afternoon."""
    return max(-12, min(14, 15 - datetime.now(UTC).hour)) or 1


class Site:
    """A served gateway in a folder of its own.

    Args:
        folder: is made.
        config: the text of voicegw.yaml.
        token: what it asks for, "" for nothing.
    """

    def __init__(self, folder, config, token=TOKEN, **variables):
        folder.mkdir(parents=True)
        self.config = folder / "voicegw.yaml"
        self.config.write_text(config, "utf-8")
        self.store = folder / "voicegw.db"
        self.token = token
        kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        self._environment = {
            **kept,
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "VOICEGW_CONFIG": str(self.config),
            "VOICEGW_DB_PATH": str(self.store),
            **({"VOICEGW_MCP_TOKEN": token} if token else {}),
            **variables,
        }
        self._errors = folder / "stderr.txt"
        self._process = None
        self.base = ""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, port=0):
        """Serve; return once requests are taken."""
        command = [VOICEGW, "serve", "-p", str(port), "--dashboard-port", "0"]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
            )
        told, until = b"", time.monotonic() + WAIT_S
        while b"claude mcp add" not in told:
            assert select.select([self._process.stdout], [], [], max(0, until - time.monotonic()))[0]
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            assert part, self._errors.read_text()
            told += part
        self.base = re.search(r"(http://\S+)/mcp ", told.decode())[1]
        self.own = re.search(r"(http://\S+)/   dashboard", told.decode())[1]

    def stop(self):
        """End the process by a signal to its pid."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            assert self._process.wait(WAIT_S) == 0
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
        assert "Traceback" not in self._errors.read_text()

    def record(self, rows):
        """Write rows into the store as another process does."""
        if not self.store.exists():
            prepare(self.store, deadline=time.monotonic() + WAIT_S)
        with closing(connect(self.store, timeout_s=WAIT_S)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            insert_requests(connection, list(rows))
            connection.execute("COMMIT")

    def api(self, path, **parameters):
        """Return what the API answers."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        with httpx2.Client(headers=headers, timeout=WAIT_S, trust_env=False) as client:
            answer = client.get(f"{self.base}/v1/{path}", params=parameters)
            assert answer.status_code == 200, answer.text
            return answer.json()

    def run(self, *arguments):
        """Run ``voicegw`` on the same file; return its standard output."""
        done = subprocess.run(
            [VOICEGW, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def busy_site(folder):
    """A gateway of which one budget is exceeded, one nearly, one not, in a zone where it is afternoon."""
    made, now_ms = traffic(), time.time_ns() // 1_000_000
    rows = [
        replace(row, cost_nanousd=(row.cost_nanousd or 0) * DEARER)
        for row in made.Calls(ROWS, end_ms=now_ms, seed=7)
    ]
    rows.append(replace(rows[-1], id="of-the-lab", timestamp_ms=now_ms - 1_000, project=made.PROJECTS[3]))
    ahead = afternoon()
    hours = (datetime.now(UTC).hour + ahead) % 24
    midnight_ms = (now_ms // 3_600_000 - hours) * 3_600_000
    spent = Counter()
    for row in rows:
        if row.timestamp_ms >= midnight_ms:
            spent[row.project] += row.cost_nanousd / 1e9
    budgets = {
        made.PROJECTS[0]: spent[made.PROJECTS[0]] * 1.15,
        made.PROJECTS[1]: spent[made.PROJECTS[1]] * 0.9,
        made.PROJECTS[2]: spent[made.PROJECTS[2]] * 2.5,
        made.PROJECTS[3]: 0,
    }
    config = made.voicegw_yaml().replace("timezone: UTC", f"timezone: Etc/GMT{-ahead:+d}")
    for project, budget in budgets.items():
        config = re.sub(rf"(  {project}:\n    name: .*\n    daily_budget: ).*", rf"\g<1>{budget:.2f}", config)
    site = Site(folder, config, **{f"{name.upper()}_API_KEY": "fake" for name in made.PROVIDERS[:-1]})
    site.record(rows)
    with site:
        site.failed = next(row for row in reversed(rows) if row.status is RequestStatus.ERROR)
        yield site
