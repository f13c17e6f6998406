"""Containers without an engine: mount, process and network namespaces, a read-only root, and the user that an image names.

A container sees the system's libraries, a virtual environment at /opt/voicegw, and the volumes it is given; nothing else of
the machine. Its first process has number 1 there, as in Docker and Kubernetes. Needs Linux, root and the right to mount.
"""

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

USER = "10001"
START_S = 60
LOOPBACK_UP = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))"  # SIOCSIFFLAGS, IFF_UP
)


def may_contain():
    """Say whether this system lets a test make containers."""
    tools = all(map(shutil.which, ("unshare", "nsenter", "setpriv", "chroot", "mount")))
    if sys.platform != "linux" or os.geteuid() != 0 or not tools:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


@dataclass
class Image:
    """What a Dockerfile says of the containers made of it, and the folder that is /opt/voicegw there."""

    environment: dict[str, str]
    command: list[str]
    installed: Path
    programs: dict[str, Path]
    """What is copied to /usr/local/bin, by name."""


@dataclass
class Volume:
    """A folder of the host at a place of the container."""

    folder: Path
    place: str
    writable: bool = False


@dataclass
class Container:
    """One running container; ended by its own number at the end of the block."""

    image: Image
    volumes: list[Volume]
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self):
        self._folder = Path(tempfile.mkdtemp())
        (self._folder / "root").mkdir()
        self._seen = b""
        self.process = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-euc",
                self._script(),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()  # --kill-child: the kernel ends the container with it
        self.process.wait(START_S)
        self.process.stdout.close()
        shutil.rmtree(self._folder)

    def _script(self):
        root = self._folder / "root"
        lines = [f"{shlex.quote(sys.executable)} -c {shlex.quote(LOOPBACK_UP)}"]
        lines += ["mount --make-rprivate /", f"mount -t tmpfs -o mode=755 tmpfs {root}", f"cd {root}"]
        lines += ["mkdir -p proc dev etc tmp opt run usr", "mount -t proc proc proc"]
        lines += ["mount -t tmpfs -o mode=1777 tmpfs tmp"]
        for device in ("null", "zero", "urandom", "random"):
            lines += [f"touch dev/{device}", f"mount --bind /dev/{device} dev/{device}"]
        for name in ("usr", "bin", "sbin", "lib", "lib64"):
            place = Path("/", name)
            if place.is_symlink():
                lines.append(f"ln -s {place.readlink()} {name}")
            elif place.is_dir():
                lines += _bound(place, name)
        if not Path(sys.base_prefix).is_relative_to("/usr"):
            lines += _bound(Path(sys.base_prefix), sys.base_prefix.lstrip("/"))
        lines += _bound(self.image.installed, "opt/voicegw")
        # /usr is the host's and read-only here, so that programs of the image lie beside it.
        lines.append("mkdir -p opt/programs")
        for name, program in self.image.programs.items():
            lines.append(f"install -m 755 {shlex.quote(str(program))} opt/programs/{name}")
        for volume in self.volumes:
            lines += _bound(volume.folder, volume.place.lstrip("/"), writable=volume.writable)
        lines += [f"mount -o remount,ro,mode=755 {root}"]
        lines.append(f"exec chroot {root} {shlex.join(self._as_user(self.arguments))}")
        return "\n".join(lines)

    def _as_user(self, command):
        variables = {**self.image.environment, **self.environment, "HOME": "/nonexistent"}
        variables["PATH"] = f"/opt/programs:{variables['PATH']}"
        return [
            *("/usr/bin/setpriv", "--reuid", USER, "--regid", USER, "--groups", USER, "--no-new-privs"),
            *("--inh-caps=-all", "--bounding-set=-all", "/usr/bin/env", "--ignore-environment"),
            *(f"{name}={value}" for name, value in variables.items()),
            *command,
        ]

    def execute(self, *command, text=None, **variables):
        """Run a command inside, as ``docker exec`` and ``kubectl exec`` do; return what came of it."""
        asked = [f"{name}={value}" for name, value in variables.items()]
        (first,) = _children(self.process.pid)
        return subprocess.run(
            [
                *("nsenter", "--target", first, "--mount", "--net", "--ipc", "--pid", "--root", "--wd"),
                *self._as_user([*asked, *command]),
            ],
            capture_output=True,
            text=True,
            input=text,
            timeout=START_S,
            check=False,
        )

    def output(self, until=None):
        """Return what it wrote until a text came, or until it ended; fails after START_S."""
        end = time.monotonic() + START_S
        while until is None or until.encode() not in self._seen:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            assert ready, f"neither {until!r} nor the end came:\n{self._seen.decode()}"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            self._seen += data
            if not data:
                assert until is None, self._seen.decode()
                break
        return self._seen.decode()

    def stop(self, grace_s):
        """Send SIGTERM to its first process; return its exit code, None when it still runs after ``grace_s``."""
        (first,) = _children(self.process.pid)
        os.kill(int(first), signal.SIGTERM)
        return self.wait(grace_s)

    def wait(self, seconds):
        """Return its exit code, None when it still runs after so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def _bound(folder, place, *, writable=False):
    quoted = shlex.quote(str(place))
    return [
        f"mkdir -p {quoted}",
        f"mount --bind {shlex.quote(str(folder))} {quoted}",
        *([] if writable else [f"mount -o remount,ro,bind {quoted}"]),
    ]


def _children(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def read_dockerfile(text):
    """Return the instructions of its last stage as (name, argument), lines that go on joined and comments left out."""
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", bare)
    found = [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]
