"""Runs rounds on all cores: forked workers of a warmed, single-threaded process, each with every n-th round."""

import gc
import json
import os
import selectors
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tests.proof import Progress

Round = Callable[[Any], dict[str, Any]]


def spread(items: Sequence[Any], make: Round, progress: Progress, *, cores: int = 0) -> list[dict[str, Any]]:
    """Return what ``make`` returned for each item (JSON), in no order; a round that raised is {"raised", "item"}."""
    cores = min(cores or os.cpu_count() or 1, len(items)) or 1
    gc.collect()
    gc.freeze()  # the workers' children share this memory as long as nobody counts its objects
    workers: dict[int, int] = {}
    found: list[dict[str, Any]] = []
    try:
        with selectors.DefaultSelector() as selector:
            for number in range(cores):
                read_end, write_end = os.pipe()
                pid = os.fork()
                if pid == 0:
                    os.close(read_end)
                    _work(items[number::cores], make, write_end)
                os.close(write_end)
                workers[pid] = read_end
                selector.register(read_end, selectors.EVENT_READ, bytearray())
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    key.data.extend(data)
                    *lines, rest = key.data.split(b"\n")
                    key.data[:] = rest
                    found += map(json.loads, lines)
                    if lines:
                        progress(len(found), len(items))
                    if not data:
                        selector.unregister(key.fd)
    except BaseException:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        for pid, read_end in workers.items():
            os.close(read_end)
            os.waitpid(pid, 0)
        gc.unfreeze()
    if len(found) != len(items):
        found.append(
            {"raised": f"{len(items) - len(found)} rounds were not made: a worker ended", "item": None}
        )
    return found


def _work(items: Sequence[Any], make: Round, pipe: int) -> None:
    code = 1
    try:
        for item in items:
            try:
                result = make(item)
            except Exception:  # noqa: BLE001 - told to the parent, which reports it as a violation
                result = {"raised": traceback.format_exc(), "item": item}
            line = memoryview(json.dumps(result).encode() + b"\n")
            while line:
                line = line[os.write(pipe, line) :]
        code = 0
    finally:
        os._exit(code)
