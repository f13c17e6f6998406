"""Runs one child under ptrace and acts at the n-th file-system call it makes in a folder.

The tracer counts only calls that touch the folder of the round (by path, or by what an open file descriptor leads
to), between the begin and the end that the child tells through its pipe. A plan is asked at each of them.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.chaos import ptrace

DEADLINE_S = 30.0
"""How long one child may take; a child that waits for longer is killed and the round is a violation."""

_FIRST_IS_FILE = frozenset(
    (
        *(
            "read",
            "write",
            "close",
            "fstat",
            "lseek",
            "pread64",
            "pwrite64",
            "readv",
            "writev",
            "preadv",
            "pwritev",
        ),
        *("fcntl", "flock", "fsync", "fdatasync", "ftruncate", "fchmod", "fchown", "fallocate", "getdents64"),
        *("fstatfs", "copy_file_range"),
    )
)
_PATH_FIRST = (
    *(
        "open",
        "stat",
        "lstat",
        "access",
        "truncate",
        "mkdir",
        "rmdir",
        "creat",
        "unlink",
        "readlink",
        "chmod",
    ),
    *("chown", "statfs"),
)
_PATH_SECOND = (
    *("openat", "mkdirat", "newfstatat", "unlinkat", "readlinkat", "fchmodat", "fchownat", "faccessat"),
    *("faccessat2", "utimensat", "openat2", "statx"),
)
_PATHS = {
    "symlink": (1,),
    "symlinkat": (2,),
    "rename": (0, 1),
    "link": (0, 1),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), (1, 3)),
    **dict.fromkeys(_PATH_FIRST, (0,)),
    **dict.fromkeys(_PATH_SECOND, (1,)),
}


@dataclass(frozen=True)
class Call:
    """One call in the round's folder: which it was, its number there (from 0), and the names it touches."""

    number: int
    name: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.paths)})"


class Act:
    """What to do at a call."""

    GO, KILL_BEFORE, KILL_AFTER = range(3)


@dataclass(frozen=True)
class Fail:
    """Let the call return this error number instead of being made (``close`` is made: a descriptor never leaks so)."""

    number: int


class Watch(Protocol):
    """Is asked at every call; sees every result."""

    def enter(self, call: Call) -> int | Fail: ...
    def leave(self, call: Call, result: int) -> None: ...
    def idle(self) -> None: ...


class JustWatch:
    """Lets everything go on; the counting round."""

    def enter(self, _call: Call) -> int | Fail:
        return Act.GO

    def leave(self, call: Call, result: int) -> None:
        """See a result; this one does not look."""

    def idle(self) -> None:
        """Is called when nothing happens for the trace's ``patience_s``."""


@dataclass
class Outcome:
    """What a traced child did: its calls with results, what it told, and how it ended."""

    calls: list[Call] = field(default_factory=list)
    results: dict[int, int] = field(default_factory=dict)
    told: list[dict] = field(default_factory=list)
    told_at: list[int] = field(default_factory=list)
    """For each thing told, how many calls had been entered by then."""
    status: int = 0
    overdue: str = ""
    """When it hung: what its threads were waiting in."""

    @property
    def answer(self) -> dict | None:
        """What the change was answered, None when the child never got so far."""
        return next((item for item in self.told if "answered" in item), None)


class Trace:
    """One traced child. ``run`` forks it and returns when it is gone."""

    def __init__(self, folder: Path, watch: Watch, *, patience_s: float = DEADLINE_S) -> None:
        self._folder = os.path.realpath(folder)
        self._watch = watch
        self._patience_s = patience_s
        self._outcome = Outcome()
        self._inside: dict[int, tuple[Call, int]] = {}
        self._known: set[int] = set()
        self._counting = False
        self._names = ptrace.machine().calls
        self._read_end = self._write_end = self._pid = 0
        self._heard = b""
        self._kill_at = -1

    def run(self, child: Callable[[Callable[[dict], None]], None]) -> Outcome:
        """Fork; the child calls ``child(tell)``, and what it tells first is the begin of the counted calls."""
        self._read_end, self._write_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _be_child(child, self._write_end)
        os.close(self._write_end)
        os.set_blocking(self._read_end, False)
        memory = None
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            self._wait(self._pid)
            ptrace.attach(self._pid)
            memory = os.open(f"/proc/{self._pid}/mem", os.O_RDONLY)
            ptrace.resume(self._pid)
            self._follow(memory)
            self._hear()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            if memory is not None:
                os.close(memory)
            os.close(self._read_end)
        return self._outcome

    def _follow(self, memory: int) -> None:
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                tid, status = self._wait(-1)
            except TimeoutError:
                if time.monotonic() > until:
                    self._outcome.overdue = self._whereabouts()
                    os.kill(self._pid, signal.SIGKILL)
                else:
                    self._watch.idle()
                continue
            if not os.WIFSTOPPED(status):
                if tid == self._pid:
                    self._outcome.status = status
                    return
                self._known.discard(tid)
                continue
            stopped_by, event = os.WSTOPSIG(status), status >> 16
            forward = 0
            try:
                if stopped_by == ptrace.SYSCALL_STOP:
                    self._at_call(tid, memory)
                elif not event and tid in self._known | {self._pid}:
                    forward = stopped_by
            except ProcessLookupError:
                continue
            self._known.add(tid)
            ptrace.resume(tid, forward)

    def _at_call(self, tid: int, memory: int) -> None:
        entering, number, values = ptrace.read_call(tid)
        if not entering:
            call, forced = self._inside.pop(tid, (None, 0))
            if call is None:
                return
            if forced:
                ptrace.set_result(tid, forced)
            result = forced or values[0]
            self._outcome.results[call.number] = result
            self._watch.leave(call, result)
            if self._kill_at == call.number:
                self._kill()
            return
        name = self._names.get(number)
        if name is None:
            return
        if name == "write" and values[0] == self._write_end:
            self._counting = True
            self._outcome.told_at.append(len(self._outcome.calls))
            return
        if not self._counting:
            return
        paths = self._paths(name, values, memory)
        if not paths:
            return
        call = Call(len(self._outcome.calls), name, paths)
        self._outcome.calls.append(call)
        self._act(tid, call, self._watch.enter(call))

    def _act(self, tid: int, call: Call, act: int | Fail) -> None:
        forced = 0
        if isinstance(act, Fail):
            forced = -act.number
            if call.name != "close":
                ptrace.cancel_call(tid)
        elif act == Act.KILL_BEFORE:
            ptrace.cancel_call(tid)
            self._kill()
            return
        elif act == Act.KILL_AFTER:
            self._kill_at = call.number
        self._inside[tid] = (call, forced)

    def _kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        raise ProcessLookupError

    def _paths(self, name: str, values: tuple[int, ...], memory: int) -> tuple[str, ...]:
        if name in _FIRST_IS_FILE or name == "mmap":
            found = [self._open_file(values[4] if name == "mmap" else values[0])]
        else:
            found = [self._place(memory, name, values, index) for index in _PATHS[name]]
        return tuple(
            os.path.relpath(path, self._folder)
            for path in found
            if path == self._folder or path.startswith(self._folder + os.sep)
        )

    def _place(self, memory: int, name: str, values: tuple[int, ...], index: int) -> str:
        """Return the path of an argument; a relative one begins at the descriptor before it, or where the child is."""
        path = self._text(memory, values[index])
        if path.startswith(os.sep) or (name in _PATH_FIRST and not path):
            return path
        beside = index > 0 and name not in {"rename", "link", "symlink"}
        folder = self._open_file(values[index - 1]) if beside else ""
        return os.path.join(folder, path).rstrip(os.sep) if folder else ""  # noqa: PTH118

    def _open_file(self, number: int) -> str:
        if number >= 1 << 31:
            return ""
        try:
            return str(Path(f"/proc/{self._pid}/fd/{number}").readlink()).removesuffix(" (deleted)")
        except OSError:
            return ""

    def _text(self, memory: int, address: int) -> str:
        raw = b""
        try:
            while b"\0" not in raw and len(raw) < 4096:
                start = address + len(raw)
                raw += os.pread(memory, min(256, 4096 - start % 4096), start)
        except (OSError, OverflowError):
            return ""
        return os.fsdecode(raw.partition(b"\0")[0])

    def _wait(self, pid: int) -> tuple[int, int]:
        """Return the next stop or end; a stop sends SIGCHLD, which is blocked and so waits to be taken.

        Raises:
            TimeoutError: there was none for ``patience_s``.
        """
        while True:
            found, status = os.waitpid(pid, ptrace.WALL | os.WNOHANG)
            if found:
                return found, status
            if signal.sigtimedwait({signal.SIGCHLD}, self._patience_s) is None:
                raise TimeoutError

    def _whereabouts(self) -> str:
        """Return state and system call of each thread, and the last call that was counted."""
        tasks = sorted(Path(f"/proc/{self._pid}/task").iterdir())
        words = [f"{task.name}: {(task / 'stat').read_text().split(') ')[1][0]}" for task in tasks]
        words += [f"in {self._inside}", f"after {self._outcome.calls[-1:]}"]
        return ", ".join(words)

    def _hear(self) -> None:
        while data := os.read(self._read_end, 1 << 16):
            self._heard += data
        self._outcome.told = [json.loads(line) for line in self._heard.splitlines()]


def _be_child(child: Callable[[Callable[[dict], None]], None], pipe: int) -> None:
    """Be the traced child to the end; never returns."""

    def tell(message: dict) -> None:
        os.write(pipe, json.dumps(message).encode() + b"\n")

    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        ptrace.trace_me()
        child(tell)
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must end here, whatever happens
        tell({"broke": repr(error)})
    finally:
        os._exit(code)
