"""Section "suite": the official conformance suite of the protocol, on the product as shipped and with the suite's fixtures."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import npm
from tests.conformance.scene import STOPPED_S, Scene
from tests.e2e.conftest import LineServer
from tests.proof import Progress, Section

NAME = "suite"
TITLE = "The official conformance suite"
ROUNDS = 0
SOURCE = Path(__file__).parent / "packages" / "suite"
ROOT = Path(__file__).parents[2]
RUN_S = 300
NEXT, RELEASED = "conformance-next", "conformance"

FIXTURE_FREE = {
    "2025-11-25": (
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    ),
    "2026-07-28": (
        "tools-list",
        "resources-list",
        "prompts-list",
        "sep-2164-resource-not-found",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "input-required-result-unsupported-methods",
        "input-required-result-ignore-extra-params",
    ),
}
"""The scenarios that need nothing but a server, by protocol revision; the others call tools, prompts and resources by name."""

CHECKED = """\
`@modelcontextprotocol/conformance` from npm, released and next, over `/mcp`. *As shipped* is `voicegw serve` on a small
file; only the 17 scenarios that need nothing but a server are counted. *With fixtures* is the same server with the tools,
prompts and resources that the suite calls by name (`tests/conformance/fixtures.py`) beside its own: behind the same guard, on
the same transports, and whatever is no fixture is answered by the product's handlers. There all scenarios of the revision are
run (`--suite all`). Those of extensions (tasks, skills) belong to no revision: the server does not offer them.

Warnings are of what the specification recommends. The server leaves two such things out: streams cannot be resumed, so they carry
no event ids and no retry time. One scenario warns as shipped, because it asks about a fixture's answer.
"""


@dataclass
class Scenario:
    """The checks of one scenario by their status, and what failed or was warned of."""

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def run_suite(package: str, url: str, revision: str, output: Path) -> list[Scenario]:
    """Run all scenarios of a protocol revision against ``url`` and return what each found, in the suite's order.

    Args:
        package: ``RELEASED`` or ``NEXT``.
        url: of ``/mcp``.
        revision: such as 2026-07-28.
        output: a folder for the suite's files, made here.
    """
    program = npm.install(SOURCE) / "node_modules" / package / "dist" / "index.js"
    options = ["--url", url, "--suite", "all", "--spec-version", revision, "-o", str(output)]
    done = subprocess.run(
        [str(npm.NODE), str(program), "server", *options],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(output.parent), "NO_COLOR": "1"},
    )
    found = [
        _read(file) for file in sorted(output.glob("*/checks.json"), key=lambda file: file.stat().st_mtime_ns)
    ]
    if not found:
        raise RuntimeError(f"the suite did not run: {done.stderr or done.stdout}")
    return found


def _read(file: Path) -> Scenario:
    """Read one scenario's checks; its folder is called ``server-NAME-TIME``."""
    scenario = Scenario(file.parent.name.removeprefix("server-").rsplit("-", 6)[0])
    for check in json.loads(file.read_text(encoding="utf-8")):
        scenario.statuses[check["status"]] += 1
        told = f"`{check['id']}` {check.get('errorMessage', '')}"
        if check["status"] == "FAILURE":
            scenario.failures.append(told)
        elif check["status"] == "WARNING":
            scenario.warnings.append(check["id"])
    return scenario


@contextmanager
def fixtures_served(scene: Scene) -> Iterator[str]:
    """Serve the scene's gateway with the suite's fixtures; give the URL of ``/mcp``."""
    with (scene.folder / "stderr.txt").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.serve", str(scene.file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=scene.environment,
        )
    try:
        yield LineServer(process).line().decode()
    finally:
        process.terminate()
        process.wait(STOPPED_S)
        process.stdout.close()


def run(_rounds: int, _seed: int, folder: Path, _progress: Progress) -> Section:
    """Run the suite on both servers."""
    columns = ("server", "suite", "revision", "scenarios", "checks passed", "failed", "warnings")
    section = Section(NAME, columns=columns)
    scene = Scene(folder)
    with scene.served() as server:
        for revision, names in FIXTURE_FREE.items():
            found = run_suite(NEXT, server.mcp, revision, folder / f"shipped-{revision}")
            _note(section, "as shipped", NEXT, revision, [item for item in found if item.name in names])
            for name in set(names) - {item.name for item in found}:
                section.violations.append(f"as shipped, {revision}, {name}: did not run")
    with fixtures_served(scene) as url:
        for package, revision in ((RELEASED, "2025-11-25"), (NEXT, "2025-11-25"), (NEXT, "2026-07-28")):
            found = run_suite(package, url, revision, folder / f"{package}-{revision}")
            _note(section, "with fixtures", package, revision, found)
    warnings = [f"* {warning}" for warning in section.notes]
    section.notes = ["Scenarios counted as shipped:", "", *_named(), ""]
    if warnings:
        section.notes += ["Checks that warned:", "", *warnings]
    return section


def _named() -> list[str]:
    return [
        f"* {revision}: {', '.join(f'`{name}`' for name in names)}"
        for revision, names in FIXTURE_FREE.items()
    ]


def _note(section: Section, server: str, package: str, revision: str, found: list[Scenario]) -> None:
    version = npm.versions(SOURCE)[package]
    total = sum((item.statuses for item in found), Counter())
    section.figures.append(
        (server, version, revision, len(found), total["SUCCESS"], total["FAILURE"], total["WARNING"])
    )
    for item in found:
        section.violations += [
            f"{server}, {version}, {revision}, {item.name}: {text}" for text in item.failures
        ]
    for warning in (f"`{item.name}`: `{check}`" for item in found for check in item.warnings):
        if warning not in section.notes:
            section.notes.append(warning)
