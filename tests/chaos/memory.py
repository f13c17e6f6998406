"""A folder on a disk in memory, for sections about what is written, not about what a disk keeps of it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

DISK = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there


def there_is_one() -> bool:
    """Say whether there is such a disk here."""
    return os.access(DISK, os.W_OK | os.X_OK)


@contextlib.contextmanager
def folder_in_memory(otherwise: Path) -> Generator[Path]:
    """Make a folder in memory, or in ``otherwise`` where there is no such disk; it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="voicegw-chaos-", dir=DISK if there_is_one() else otherwise))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
