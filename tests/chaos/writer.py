"""One of the processes of section ``writers``: ``python -m tests.chaos.writer FOLDER SEED NUMBER COUNT``.

It says that it is ready, waits for a line, makes its changes, and tells each as a line of JSON.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos import scene

from voicegw_mcp.config.disk import version_of

POOL = 8
"""Ids of each kind that all share, and as many that each process has alone."""


class Mind:
    """Decides what a process asks for next; every entry it writes holds a text that no other one has."""

    def __init__(self, seed: int, number: int) -> None:
        self.chance = random.Random(f"{seed}/{number}")  # noqa: S311 - drawn again from the seed
        self.number = number
        self.asked = 0

    def call(self, version: str, first_version: str) -> tuple[str, dict[str, Any]]:
        """Return the next tool and its arguments."""
        self.asked += 1
        chance = self.chance
        kind = chance.choice(("project", "project", "provider", "model"))
        tool, given = getattr(self, f"_{kind}")(chance.random() < 0.3)
        if chance.random() < 0.15:
            given["dry_run"] = True
        draw = chance.random()
        if draw < 0.15:
            given["if_version"] = version
        elif draw < 0.18:
            given["if_version"] = first_version
        return tool, given

    @property
    def text(self) -> str:
        return f"{self.number}-{self.asked}"

    def _id(self, kind: str) -> str:
        owner = "all" if self.chance.random() < 0.5 else f"p{self.number}"
        return f"{owner}-{kind}-{self.chance.randrange(POOL)}"

    def _conflict(self) -> str:
        return self.chance.choice(("error", "update", "update"))

    def _confirm(self) -> bool:
        return self.chance.random() < 0.95

    def _project(self, delete: bool) -> tuple[str, dict[str, Any]]:
        name = self._id("project")
        if delete:
            return "delete_project", {"project_id": name, "confirm": self._confirm()}
        given = {
            "project_id": name,
            "name": f"Of {self.text}",
            "daily_budget": self.number + self.asked / 1000 + 0.5,
            "on_conflict": self._conflict(),
        }
        if self.chance.random() < 0.2:
            given["llm_model"] = self._id("model")
        return "create_project", given

    def _provider(self, delete: bool) -> tuple[str, dict[str, Any]]:
        name = self._id("provider")
        if delete:
            cascade = self.chance.random() < 0.7
            return "delete_provider", {"provider_id": name, "confirm": self._confirm(), "cascade": cascade}
        # One type to an id, or an update would drop what belongs to the old service.
        given = {"provider_id": name, "provider_type": "ollama", "options": {"note": self.text}}
        return "add_provider", {**given, "on_conflict": self._conflict()}

    def _model(self, delete: bool) -> tuple[str, dict[str, Any]]:
        name = self._id("model")
        if delete:
            cascade = self.chance.random() < 0.7
            return "delete_model", {"model_id": name, "confirm": self._confirm(), "cascade": cascade}
        return "register_model", {
            "modality": "llm",
            "provider_id": self._id("provider"),
            "model_name": f"m{self.text}",
            "model_id": name,
            "display_name": f"Of {self.text}",
            "on_conflict": self._conflict(),
        }


async def work(folder: Path, seed: int, number: int, count: int) -> None:
    """Be one of the processes."""
    mind = Mind(seed, number)
    gateway = scene.House(folder).gateway()
    first_version = version_of(scene.FILE.encode())
    _tell({"ready": number})
    await asyncio.to_thread(sys.stdin.readline)
    try:
        for _ in range(count):
            call = mind.call(gateway.catalog().configuration.version, first_version)
            started = time.perf_counter()
            answer = await scene.answer_of(gateway, call)
            seconds = time.perf_counter() - started
            refused = answer["answered"] != "ok"
            said = json.loads(answer["said"]) if answer["answered"] != "INTERNAL_ERROR" else {}
            details = said["error"].get("details", {}) if refused and said else {}
            conflict = ""
            if answer["answered"] == "CONFLICT":
                conflict = (
                    "lock"
                    if "retry_after_ms" in details
                    else "version"
                    if "if_version" in call[1]
                    else "entries"
                )
            _tell(
                {
                    "call": call,
                    "answered": answer["answered"],
                    "said": answer["said"][-400:] if refused else "",
                    "change_id": None if refused else said.get("change_id"),
                    "dry_run": call[1].get("dry_run", False),
                    "conflict": conflict,
                    "seconds": seconds,
                }
            )
    finally:
        await gateway.close()


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), *map(int, sys.argv[2:])))
