import contextlib
import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest

from voicegw_mcp.config import disk as disk_module, replacement
from voicegw_mcp.config.disk import DiskFile, version_of
from voicegw_mcp.config.lock import Patience
from voicegw_mcp.config.replacement import Superseded, Unconfirmed
from voicegw_mcp.errors import ConfigInvalid, Conflict, ReadOnly, StoreUnavailable

OLD, NEW = b"timezone: UTC  # here\n", b"timezone: CET\n"

linux = pytest.mark.skipif(sys.platform != "linux", reason="files change places on Linux only")


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "voicegw.yaml"
    path.write_bytes(OLD)
    return DiskFile(path)


def put(disk, new=NEW, expected=OLD):
    with disk.locked() as target:
        return disk.replace(target, "c1", expected, new)


def left_behind(disk):
    return [path.name for path in disk.path.parent.iterdir() if path.suffix == ".tmp"]


def failing(*, errno_, after=0):
    """Return a function that does what the real one does ``after`` times and then fails."""
    calls = []

    def wrap(real):
        def call(*arguments, **named):
            calls.append(1)
            if len(calls) > after:
                raise OSError(errno_, os.strerror(errno_))
            return real(*arguments, **named)

        return call

    return wrap


# -- replacing -------------------------------------------------------------------------------------------------------


def test_replacing_keeps_mode_and_symlink(disk, tmp_path):
    real = tmp_path / "real" / "gateway.yaml"
    real.parent.mkdir()
    disk.path.rename(real)
    disk.path.symlink_to(real)
    real.chmod(0o640)
    assert put(disk) is True
    assert disk.path.is_symlink()
    assert real.read_bytes() == NEW
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert disk.target() == real
    assert left_behind(disk) == []


def test_a_new_file_is_private_and_its_folder_is_made(tmp_path):
    disk = DiskFile(tmp_path / "a" / "b" / "voicegw.yaml")
    put(disk, expected=b"")
    assert stat.S_IMODE(disk.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(disk.path.parent.stat().st_mode) == 0o700


def test_what_an_editor_saved_before_is_left_alone(disk):
    disk.path.write_bytes(b"by hand\n")
    with pytest.raises(Superseded):
        put(disk)
    assert disk.path.read_bytes() == b"by hand\n"
    assert left_behind(disk) == []


def test_a_symlink_that_leads_elsewhere_meanwhile_is_not_followed_back(disk, tmp_path):
    real = tmp_path / "real.yaml"
    disk.path.rename(real)
    disk.path.symlink_to(real)
    with disk.locked() as target:
        disk.path.unlink()
        disk.path.write_bytes(OLD)
        with pytest.raises(Superseded):
            disk.replace(target, "c1", OLD, NEW)
    assert (real.read_bytes(), disk.path.read_bytes()) == (OLD, OLD)


@linux
def test_an_editor_that_still_has_the_file_open_gets_it_back(disk, monkeypatch):
    monkeypatch.setattr(replacement, "PATIENCE_S", 0.02)
    with disk.path.open("r+b") as editor:
        with pytest.raises(Superseded):
            put(disk)
        editor.write(b"TIMEZONE")
    assert disk.path.read_bytes() == b"TIMEZONE: UTC  # here\n"
    assert left_behind(disk) == []


@linux
def test_an_editor_that_closes_the_file_in_time_without_a_change_is_waited_for(disk, monkeypatch):
    closing = threading.Event()
    monkeypatch.setattr(replacement.time, "sleep", lambda _: closing.set())
    editor = disk.path.open("r+b")

    def close():
        closing.wait(10)
        editor.close()

    thread = threading.Thread(target=close)
    thread.start()
    put(disk)
    thread.join(10)
    assert disk.path.read_bytes() == NEW


@linux
@pytest.mark.parametrize("problem", [errno.EACCES, errno.EINVAL])
def test_a_file_system_without_leases_is_compared_all_the_same(disk, monkeypatch, problem):
    import fcntl

    monkeypatch.setattr(fcntl, "fcntl", failing(errno_=problem)(fcntl.fcntl))
    put(disk)
    assert disk.path.read_bytes() == NEW


@pytest.mark.parametrize("there", [True, False])
def test_where_files_cannot_change_places_the_new_one_is_renamed(disk, monkeypatch, there):
    monkeypatch.setattr(replacement, "_renameat2", lambda *_: False)
    if not there:
        disk.path.unlink()
    put(disk, expected=OLD if there else b"")
    assert disk.path.read_bytes() == NEW
    assert left_behind(disk) == []


@linux
@pytest.mark.parametrize("problem", sorted(replacement._NO_SUCH_CALL))
def test_an_answer_that_means_no_such_call_makes_it_a_rename(disk, monkeypatch, problem):
    monkeypatch.setattr(replacement, "_library_call", lambda: lambda *_: problem)
    put(disk)
    assert disk.path.read_bytes() == NEW


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_rename(disk, monkeypatch, platform):
    replacement._library_call.cache_clear()
    monkeypatch.setattr(replacement.sys, "platform", platform)
    try:
        assert replacement._library_call() is None
        assert replacement._displaced(disk.path) == OLD
        put(disk)
        assert disk.path.read_bytes() == NEW
    finally:
        replacement._library_call.cache_clear()


@linux
def test_a_file_that_is_deleted_while_it_is_replaced_stays_deleted(disk, monkeypatch):
    rename = replacement._renameat2

    def deleting(*arguments):
        disk.path.unlink(missing_ok=True)
        return rename(*arguments)

    monkeypatch.setattr(replacement, "_renameat2", deleting)
    with pytest.raises(Superseded):
        put(disk)
    assert not disk.path.exists()
    assert left_behind(disk) == []


@linux
@pytest.mark.parametrize("second", ["before the look", "after the look"])
def test_the_editor_s_last_save_is_the_one_that_stays(disk, monkeypatch, second):
    """He saves right before the files change places, and again before what he saved is put back."""
    rename, displaced, saves = replacement._renameat2, replacement._displaced, [b"first\n"]

    def before_a_rename(*arguments):
        if saves and (len(saves) > 1 or saves[0] == b"first\n" or second == "after the look"):
            disk.path.write_bytes(saves.pop(0)) if saves[0] == b"first\n" else save_anew(saves.pop(0))
        return rename(*arguments)

    def save_anew(text):
        beside = disk.path.with_suffix(".swp")
        beside.write_bytes(text)
        beside.replace(disk.path)

    def look(path):
        if second == "before the look":
            save_anew(b"second\n")
        else:
            saves.append(b"second\n")
        return displaced(path)

    monkeypatch.setattr(replacement, "_renameat2", before_a_rename)
    monkeypatch.setattr(replacement, "_displaced", look)
    with pytest.raises(Superseded):
        put(disk)
    assert disk.path.read_bytes() == b"second\n"
    assert left_behind(disk) == []
    (kept,) = disk.saves()
    assert Path(kept).read_bytes() == b"first\n"


def test_a_mode_that_cannot_be_given_away_is_no_failure(disk, monkeypatch):
    monkeypatch.setattr(os, "fchown", failing(errno_=errno.EPERM)(os.fchown))
    put(disk)
    assert disk.path.read_bytes() == NEW


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_leaves_the_file_as_it_was(disk, monkeypatch, problem):
    monkeypatch.setattr(os, "fsync", failing(errno_=problem)(os.fsync))
    with pytest.raises(StoreUnavailable, match="it is as it was"):
        put(disk)
    assert disk.path.read_bytes() == OLD
    assert left_behind(disk) == []


def test_a_folder_that_cannot_be_confirmed_is_told_with_the_change_in_place(disk, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(errno_=errno.EIO, after=1)(os.fsync))
    with pytest.raises(Unconfirmed):
        put(disk)
    assert disk.path.read_bytes() == NEW


def test_a_folder_that_cannot_be_synced_at_all_is_no_failure(disk, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(errno_=errno.EINVAL, after=1)(os.fsync))
    put(disk)
    assert disk.path.read_bytes() == NEW


def test_a_mount_point_cannot_be_replaced_and_is_read_only(disk, monkeypatch):
    def busy(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(replacement, "_renameat2", busy)
    with pytest.raises(ReadOnly, match="busy"):
        put(disk)
    assert disk.path.read_bytes() == OLD
    assert left_behind(disk) == []


# -- recovering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_place", "draft", "swap", "outcome"),
    [
        (OLD, b"half of the n", None, OLD),
        (OLD, None, NEW, OLD),
        (NEW, None, OLD, NEW),
        (NEW, None, b"an editor's\n", b"an editor's\n"),
        (b"an editor's\n", b"half of the n", None, b"an editor's\n"),
        (NEW, None, None, NEW),
    ],
    ids=["torn", "written", "exchanged", "an editor displaced", "an editor later", "nothing"],
)
def test_what_a_crash_leaves_is_cleaned_up(disk, in_place, draft, swap, outcome):
    disk.path.write_bytes(in_place)
    if draft is not None:
        disk.path.with_name(".voicegw.yaml.c1.draft.tmp").write_bytes(draft)
    if swap is not None:
        disk.path.with_name(".voicegw.yaml.c1.tmp").write_bytes(swap)
    disk.recover(disk.target(), "c1", version_of(OLD), version_of(NEW))
    assert disk.path.read_bytes() == outcome
    assert left_behind(disk) == []
    assert disk.saves() == []


def test_a_save_that_was_displaced_and_replaced_by_another_one_is_kept_beside_the_file(disk):
    disk.path.write_bytes(b"another editor's\n")
    disk.path.with_name(".voicegw.yaml.c1.tmp").write_bytes(b"an editor's\n")
    disk.recover(disk.target(), "c1", version_of(OLD), version_of(NEW))
    assert disk.path.read_bytes() == b"another editor's\n"
    assert left_behind(disk) == []
    (kept,) = disk.saves()
    assert kept == str(disk.path) + ".saved-c1"
    assert disk.path.with_name("voicegw.yaml.saved-c1").read_bytes() == b"an editor's\n"


def test_what_cannot_be_cleaned_up_is_told(disk):
    disk.path.with_name(".voicegw.yaml.c1.tmp").mkdir()
    with pytest.raises(ConfigInvalid, match="interrupted change"):
        disk.recover(disk.target(), "c1", version_of(OLD), version_of(NEW))


# -- the lock --------------------------------------------------------------------------------------------------------


def test_the_lock_is_entered_in_one_thread_and_left_in_another(disk):
    held = disk.locked()
    held.__enter__()
    thread = threading.Thread(target=held.__exit__, args=(None, None, None))
    thread.start()
    thread.join(10)
    with disk.locked():
        pass


def test_a_lock_held_elsewhere_is_a_conflict_after_a_bounded_wait(disk, monkeypatch):
    monkeypatch.setattr(disk_module, "LOCK_TIMEOUT_S", 0.01)
    with (
        filelock.FileLock(disk.path.with_name(".voicegw.yaml.lock")),
        pytest.raises(Conflict, match="being changed by another process") as caught,
        disk.locked(),
    ):
        pass
    assert caught.value.details["retry_after_ms"] == disk_module.RETRY_AFTER_MS


def test_the_lock_of_a_process_that_died_is_free(disk):
    hold = (
        "import sys, voicegw_mcp.config.disk as d, pathlib\n"
        "with d.DiskFile(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(disk.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        process.kill()
    with disk.locked(Patience.of(0.5)):
        pass


# -- reading, and what stands in the way --------------------------------------------------------------------------------


def test_a_file_where_a_folder_should_be_is_read_only(tmp_path):
    (tmp_path / "blocked").write_text("")
    disk = DiskFile(tmp_path / "blocked" / "voicegw.yaml")
    with pytest.raises(ReadOnly), disk.locked():
        pass
    assert "no folder" in disk.obstacle()


def test_a_folder_in_place_of_the_file_is_told(disk):
    disk.path.unlink()
    disk.path.mkdir()
    with pytest.raises(ConfigInvalid, match="cannot be read") as caught:
        disk.read()
    assert "Put a file there" in caught.value.hint


def test_nothing_stands_in_the_way_of_a_plain_file_or_of_none(disk, tmp_path):
    assert disk.obstacle() == ""
    assert DiskFile(tmp_path / "new" / "folder" / "voicegw.yaml").obstacle() == ""


def test_a_file_mounted_by_itself_is_an_obstacle(disk, monkeypatch, tmp_path):
    """The kernel's list of mounts is read from a file of our own: mounting needs rights that tests do not have."""
    mounts = tmp_path / "mountinfo"
    escaped = str(disk.path).replace(" ", "\\040")
    mounts.write_text(
        f"36 35 98:0 / / rw - ext4 /dev/root rw\n37 36 98:0 /x {escaped} rw - ext4 /dev/root rw\n"
    )
    monkeypatch.setattr(disk_module, "MOUNTS", mounts)
    monkeypatch.setattr(disk_module, "MOUNTS_S", 0.0)
    assert "mounted by itself" in disk.obstacle()
    monkeypatch.setattr(disk_module, "MOUNTS", tmp_path / "absent")
    assert disk.obstacle() == ""
    monkeypatch.setattr(disk_module.sys, "platform", "win32")
    assert disk.obstacle() == ""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_be_written_is_an_obstacle(disk, monkeypatch, what):
    """Root may write anything, so the answer of the system is made up."""
    path = disk.path if what == "file" else disk.path.parent
    monkeypatch.setattr(os, "access", lambda asked, _mode: asked != path)
    assert "read-only" in disk.obstacle()
    with contextlib.suppress(ReadOnly):
        put(disk)
    assert disk.path.read_bytes() == (OLD if what == "file" else NEW)


def test_a_symlink_in_a_circle_is_an_obstacle(tmp_path):
    disk = DiskFile(tmp_path / "voicegw.yaml")
    disk.path.symlink_to(disk.path)
    assert "symlink leads in a circle" in disk.obstacle()
    with pytest.raises(StoreUnavailable), disk.locked():
        pass


def test_a_pipe_in_place_of_the_file_is_told_instead_of_waited_for(disk):
    disk.path.unlink()
    os.mkfifo(disk.path)
    with pytest.raises(ConfigInvalid, match="Not a regular file"):
        disk.read()
    with pytest.raises(StoreUnavailable, match="Not a regular file"):
        put(disk)


def test_a_lock_that_is_something_else_is_named(disk):
    place = disk.path.with_name(".voicegw.yaml.lock")
    place.mkdir()
    with pytest.raises(ReadOnly, match="its lock") as caught, disk.locked():
        pass
    assert caught.value.details["lock"] == str(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_lock_that_root_makes_belongs_to_the_file_s_owner(disk):
    os.chown(disk.path, 1234, 2345)
    with disk.locked():
        pass
    made = disk.path.with_name(".voicegw.yaml.lock").stat()
    assert (made.st_uid, made.st_gid) == (1234, 2345)


def test_who_gives_up_waits_no_longer_for_a_lock(disk):
    with (
        filelock.FileLock(disk.path.with_name(".voicegw.yaml.lock")),
        pytest.raises(Conflict),
        disk.locked(Patience.of(60, lambda: True)),
    ):
        pass


@linux
def test_extended_attributes_stay(disk):
    try:
        os.setxattr(disk.path, "user.note", b"mine")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    put(disk)
    assert os.getxattr(disk.path, "user.note") == b"mine"


def test_a_group_is_kept_by_who_may_not_give_files_away(disk, monkeypatch):
    given = []

    def give(_descriptor, user, group):
        if user != -1:
            raise PermissionError(errno.EPERM, "not permitted")
        given.append(group)

    monkeypatch.setattr(os, "fchown", give)
    put(disk)
    assert given == [disk.path.stat().st_gid]


def test_it_shows_its_path(disk):
    assert repr(disk) == f"DiskFile({str(disk.path)!r})"
