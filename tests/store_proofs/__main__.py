"""``python -m tests.store_proofs``: the long proofs about backups and damaged stores, and what they found."""

# ruff: noqa: T201 - this command prints
import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

SECTIONS = ("backups", "damage")
DISK = Path("/var/tmp")  # noqa: S108 - a folder of its own is made there; /tmp may be memory, where fsync does nothing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 1 when something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.store_proofs")
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--rounds", type=int, help="of each section, in place of its own number")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    violated = False
    for name in [asked.only] if asked.only else SECTIONS:
        module = importlib.import_module(f"tests.store_proofs.{name}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(
            prefix="voicegw-store-", dir=DISK if DISK.is_dir() else None
        ) as folder:
            section = module.run(asked.rounds or module.ROUNDS, asked.seed, Path(folder), _show)
        print(f"{section.name} ({time.monotonic() - started:.0f} s)")
        for label, figure in section.figures:
            print(f"  {label}: {figure}")
        for violation in section.violations:
            print(f"  VIOLATION {violation}")
        violated = violated or bool(section.violations)
    return int(violated)


def _show(done: int, total: int) -> None:
    if done % max(1, total // 20) == 0:
        print(f"  {done} of {total}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
