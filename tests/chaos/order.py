"""What must be on the disk before what: read off the calls of a change that nothing disturbed.

Killing a process does not lose what the kernel has taken in, a power cut does. Here no power is cut; what can be
shown is that the calls come in the order that a power cut needs.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.chaos.tracer import Call

_SYNCS = {"fsync", "fdatasync"}
_RENAMES = {"rename", "renameat", "renameat2", "link", "linkat"}


def out_of_order(calls: Sequence[Call], answered: int, target: str) -> list[str]:
    """Return what is missing in the calls of a change.

    Args:
        calls: its calls.
        answered: how many there were when the answer was given.
        target: the changed file, as the calls name it.
    """
    folder = str(Path(target).parent)
    into_place = [call.number for call in calls if call.name in _RENAMES and target in call.paths]
    if not into_place:
        return ["no call puts the new file into place"]
    replaced = into_place[0]
    source = {path for path in calls[replaced].paths if path != target}
    for call in reversed(calls[:replaced]):  # the new file has another name until it is whole
        if call.name in _RENAMES and source & set(call.paths):
            source |= set(call.paths)
    wanted = {
        "the journal's row is synced before the file is replaced": any(
            call.name in _SYNCS and call.paths[0].endswith((".db-wal", ".db")) for call in calls[:replaced]
        ),
        "the new file is synced after it was written and before it is put into place": _last(
            calls[:replaced], {"write", "pwrite64"}, source
        )
        < _last(calls[:replaced], _SYNCS, source),
        "the folder is synced before the change is answered": any(
            call.name in _SYNCS and call.paths == (folder,) for call in calls[into_place[-1] : answered]
        ),
    }
    return [f"this does not hold: {rule}" for rule, holds in wanted.items() if not holds]


def _last(calls: Sequence[Call], names: set[str], paths: set[str]) -> int:
    return max(
        (call.number for call in calls if call.name in names and call.paths and call.paths[0] in paths),
        default=-1,
    )
