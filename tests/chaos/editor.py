"""The human of section ``editors``: saves the file, in some style, while a traced writer stands still at a call.

``replaced`` tells that the change was in place when the human saved, ``planned_before`` that the writer had planned by
then; ``amid`` that the second save or the kill met the new file in place although the human had saved before it.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import scene
from tests.chaos.tracer import Act, Call, Fail, JustWatch

STYLES = (
    *("rename", "in place", "slow", "slow, half", "slow, waits", "slow, ends last"),
    *("twice", "twice, in place", "rename, killed", "in place, killed", "killed, then saved"),
)
WAITING_S = 0.3
"""How long the slow editor that waits takes for a save."""

ONCE_MORE = b"# saved once more\n"


@dataclass(frozen=True)
class Plan:
    """What a round does: the editor opens the file at the n-th call; ``later`` calls after that it closes it, or saves
    it again, or the writer is killed."""

    number: int
    pair: int
    same: bool
    style: str
    index: int
    later: int


class Editor(JustWatch):
    """Saves the file in the middle of a change. ``replaced``: the change was in place when the editor began."""

    def __init__(self, plan: Plan, house: scene.House, text: bytes, after: set[bytes | None]) -> None:
        self._plan, self._house, self._text, self._after = plan, house, text, after
        self._open = -1
        self._left = b""
        self._opened = 0.0
        self._opened_at = plan.index
        self._locked = False
        self.at = "the end"
        self.planned = False
        self.planned_before = False
        self.replaced = False
        self.done = False
        self.twice = False
        self.killed = False
        self.amid = False

    def enter(self, call: Call) -> int | Fail:
        if self._open < 0 and not self.done and call.number >= self._plan.index:
            return self._begin(call)
        if self._open >= 0 and self._is_time(call):
            self.finish()
        elif self.done and call.number == self._opened_at + self._plan.later:
            return self._come_back(call)
        return Act.GO

    def _come_back(self, call: Call) -> int | Fail:
        self.amid = not self.replaced and self._house.content() in self._after
        if self._plan.style.endswith("killed"):
            self.at += f", killed before {call}"
            self.killed = True
            return Act.KILL_BEFORE
        if self._plan.style.startswith("twice"):
            self.at += f", again at {call}"
            self.twice = True
            self.replaced = self.replaced or self._house.content() in self._after
            self.save(self._text + ONCE_MORE, self._plan.style == "twice, in place")
        return Act.GO

    def save(self, text: bytes, in_place: bool) -> None:
        """Save the whole text at once."""
        target = self._house.target
        if in_place:
            target.write_bytes(text)
            return
        temporary = target.with_name("config.yaml~")
        temporary.write_bytes(text)
        temporary.chmod(scene.MODE)
        temporary.replace(target)

    def leave(self, call: Call, result: int) -> None:
        """Notice when the writer has planned: under its lock it has read the file, or begun to write the journal."""
        names = {Path(path).name for path in call.paths}
        if call.name == "flock" and result == 0:
            self._locked = True
        read = call.name == "read" and self._house.target.name in names
        if self._locked and (read or (call.name == "pwrite64" and "voicegw.db-wal" in names)):
            self.planned = True

    def idle(self) -> None:
        if self._open >= 0 and self._plan.style != "slow, ends last":
            self.finish()

    def finish(self) -> None:
        """Write the rest and close; does nothing when all is saved."""
        if self._open >= 0:
            os.write(self._open, self._left)
            os.close(self._open)
            self._open, self.done = -1, True

    def _is_time(self, call: Call) -> bool:
        if self._plan.style == "slow, ends last":
            return False
        if self._plan.style == "slow, waits":
            return time.monotonic() - self._opened > WAITING_S
        return call.number >= self._opened_at + self._plan.later

    def _begin(self, call: Call) -> int | Fail:
        if self._plan.style == "killed, then saved":
            self.at, self.killed, self.done = str(call), True, True
            return Act.KILL_BEFORE
        replaced = self._house.content() in self._after
        if self._plan.style in {"rename", "rename, killed", "twice"}:
            self.save(self._text, in_place=False)
            self._opened_at, self.done = call.number, True
        elif self._plan.style in {"in place", "in place, killed", "twice, in place"}:
            self.save(self._text, in_place=True)
            self._opened_at, self.done = call.number, True
        else:
            try:
                # Where the writer holds a lease, the editor waits for it: it tries again at the next call.
                self._open = os.open(self._house.config, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)
            except BlockingIOError:
                return Act.GO
            half = len(self._text) // 2 if self._plan.style == "slow, half" else 0
            os.write(self._open, self._text[:half])
            self._left = self._text[half:]
            self._opened, self._opened_at = time.monotonic(), call.number
        self.at, self.replaced, self.planned_before = str(call), replaced, self.planned
        return Act.GO
