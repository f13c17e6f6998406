"""Real mounts, in a mount namespace of the test's own: what Docker and Kubernetes make of a file or folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = "# from a ConfigMap\nprojects:\n  base: {name: Base}\n"
VOICEGW = str(Path(sys.executable).with_name("voicegw"))
SINGLE_FILE = 'mount --bind host/voicegw.yaml app/voicegw.yaml && exec "$@"'
READ_ONLY_FOLDER = 'mount --bind host app && mount -o remount,ro,bind app && exec "$@"'


def may_mount():
    """Say whether this system lets a test make a mount namespace: containers often do not."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "--bind", ".", "."],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(
    not may_mount(), reason="mounting needs namespaces, which are not permitted here"
)


@pytest.fixture
def folder(tmp_path):
    for name in ("host", "app", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "host" / "voicegw.yaml").write_text(TEXT)
    (tmp_path / "app" / "voicegw.yaml").touch()
    return tmp_path


def voicegw(folder, mount, *arguments):
    environment = {**os.environ, "HOME": str(folder), "VOICEGW_DB_PATH": str(folder / "data" / "voicegw.db")}
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", VOICEGW, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("mount", "reason"),
    [(SINGLE_FILE, "it is mounted by itself"), (READ_ONLY_FOLDER, "the file is read-only")],
    ids=["one file", "a read-only folder"],
)
def test_a_mounted_file_keeps_its_bytes_and_changes_go_to_the_overlay_on_the_data_volume(
    folder, mount, reason
):
    file = str(folder / "app" / "voicegw.yaml")
    made = voicegw(folder, mount, "call", "-c", file, "create_project", "project_id=x", "name=X")
    assert made.returncode == 0, made.stderr
    overlay = folder / "data" / "voicegw.overlay.yaml"
    assert json.loads(made.stdout)["file"] == str(overlay)
    assert (folder / "host" / "voicegw.yaml").read_text() == TEXT
    assert "name: X" in overlay.read_text()

    refused = voicegw(
        folder, mount, "call", "-c", file, "create_project", "project_id=base", "name=Y", "on_conflict=update"
    )
    assert refused.returncode == 1
    assert "READ_ONLY_RESOURCE" in refused.stdout + refused.stderr
    assert reason in refused.stdout + refused.stderr

    checked = voicegw(folder, mount, "check", "-c", file)
    assert checked.returncode == 0, checked.stderr
    assert reason in checked.stdout
    assert str(overlay) in checked.stdout
    assert sorted(path.name for path in (folder / "host").iterdir()) == ["voicegw.yaml"]
