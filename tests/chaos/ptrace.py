"""Linux's ptrace through ctypes: attach, step from system call to system call, read one, put an error in its place.

ptrace is what sees every call of a real process in order and can stop between two of them; a library preloaded
into the process would miss the calls that SQLite makes, and a mocked file system would not be the real one.
"""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from dataclasses import dataclass

WALL = 0x40000000
"""waitpid's __WALL: threads as well as processes."""

SYSCALL_STOP = 5 | 0x80
EVENT_CLONE = 3

_TRACEME, _CONT, _SYSCALL, _SETOPTIONS = 0, 7, 24, 0x4200
_GETREGSET, _SETREGSET, _GET_SYSCALL_INFO = 0x4204, 0x4205, 0x420E
_OPTIONS = 0x1 | (1 << EVENT_CLONE) | 0x100000  # TRACESYSGOOD, TRACECLONE, EXITKILL
_PRSTATUS, _ARM_SYSCALL = 1, 0x404
_INFO_SIZE = 88
_ENTRY, _EXIT = 1, 2


@dataclass(frozen=True)
class Machine:
    """Where a processor keeps what a call returns, and how its system calls are numbered."""

    registers: int
    result: int
    calls: dict[int, str]


_X86 = (
    "read 0 write 1 open 2 close 3 stat 4 fstat 5 lstat 6 lseek 8 mmap 9 pread64 17 pwrite64 18 readv 19 writev 20 "
    "access 21 fcntl 72 flock 73 fsync 74 fdatasync 75 truncate 76 ftruncate 77 rename 82 mkdir 83 rmdir 84 creat 85 "
    "link 86 unlink 87 symlink 88 readlink 89 chmod 90 fchmod 91 chown 92 fchown 93 statfs 137 fstatfs 138 "
    "getdents64 217 openat 257 mkdirat 258 fchownat 260 newfstatat 262 unlinkat 263 renameat 264 linkat 265 "
    "symlinkat 266 readlinkat 267 fchmodat 268 faccessat 269 utimensat 280 fallocate 285 preadv 295 pwritev 296 "
    "renameat2 316 copy_file_range 326 statx 332 openat2 437 faccessat2 439"
)
_ARM = (
    "fcntl 25 flock 32 mkdirat 34 unlinkat 35 symlinkat 36 linkat 37 renameat 38 statfs 43 fstatfs 44 truncate 45 "
    "ftruncate 46 fallocate 47 faccessat 48 fchmod 52 fchmodat 53 fchownat 54 fchown 55 openat 56 close 57 "
    "getdents64 61 lseek 62 read 63 write 64 readv 65 writev 66 pread64 67 pwrite64 68 preadv 69 pwritev 70 "
    "readlinkat 78 newfstatat 79 fstat 80 fsync 82 fdatasync 83 utimensat 88 mmap 222 renameat2 276 "
    "copy_file_range 285 statx 291 openat2 437 faccessat2 439"
)


def _numbered(table: str) -> dict[int, str]:
    words = table.split()
    return {int(number): name for name, number in zip(words[::2], words[1::2], strict=True)}


# user_regs_struct: 27 registers of 8 bytes, orig_rax the 16th and rax the 11th; aarch64: x0..x30, sp, pc, pstate.
_MACHINES = {
    "x86_64": Machine(27 * 8, 10 * 8, _numbered(_X86)),
    "aarch64": Machine(34 * 8, 0, _numbered(_ARM)),
}
_ORIG_RAX = 15 * 8


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def machine() -> Machine:
    """Return what is known of this processor."""
    return _MACHINES[platform.machine()]


def why_not() -> str:
    """Return why ptrace cannot be used here, "" when it can."""
    if sys.platform != "linux":
        return "ptrace as used here is Linux's"
    if platform.machine() not in _MACHINES:
        return f"the registers of {platform.machine()} are not described here"
    pid = os.fork()
    if pid == 0:
        try:
            trace_me()
        except BaseException:  # noqa: BLE001 - a forked child must end here, whatever happens
            os._exit(1)
        os._exit(0)
    try:
        _, status = os.waitpid(pid, WALL)
        attach(pid)
        resume(pid)
        _, status = os.waitpid(pid, WALL)
        read_call(pid)
    except (OSError, ChildProcessError) as error:
        return f"ptrace is not permitted here ({error})"
    finally:
        _end(pid)
    return "" if os.WIFSTOPPED(status) else "ptrace stops no system calls here"


def trace_me() -> None:
    """Let the parent trace this process, and stop until it does."""
    _ptrace(_TRACEME, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def attach(pid: int) -> None:
    """Set the options for a child that stopped in ``trace_me``: it dies with us, its threads are traced too."""
    _ptrace(_SETOPTIONS, pid, 0, _OPTIONS)


def resume(tid: int, number: int = 0) -> None:
    """Let a stopped thread run to its next system call, with a signal delivered; a thread killed meanwhile is fine."""
    with contextlib.suppress(ProcessLookupError):
        _ptrace(_SYSCALL, tid, 0, number)


def read_call(tid: int) -> tuple[bool, int, tuple[int, ...]]:
    """Return of a thread stopped at a call: whether it enters, and number and arguments, or 0 and the result.

    Raises:
        ProcessLookupError: the thread was killed meanwhile.
    """
    buffer = ctypes.create_string_buffer(_INFO_SIZE)
    _ptrace(_GET_SYSCALL_INFO, tid, _INFO_SIZE, ctypes.addressof(buffer))
    if buffer.raw[0] == _ENTRY:
        number, *arguments = struct.unpack_from("<q6Q", buffer, 24)
        return True, number, tuple(arguments)
    return False, 0, struct.unpack_from("<q", buffer, 24)


def cancel_call(tid: int) -> None:
    """Make the call that the thread is about to enter do nothing."""
    if platform.machine() == "x86_64":
        registers = _registers(tid)
        struct.pack_into("<q", registers, _ORIG_RAX, -1)
        _set(tid, _PRSTATUS, registers)
    else:
        _set(tid, _ARM_SYSCALL, ctypes.create_string_buffer(struct.pack("<i", -1), 4))


def set_result(tid: int, result: int) -> None:
    """Let the call that the thread is leaving return ``result``; an error is its negative number."""
    registers = _registers(tid)
    struct.pack_into("<q", registers, machine().result, result)
    _set(tid, _PRSTATUS, registers)


def _registers(tid: int) -> ctypes.Array:
    buffer = ctypes.create_string_buffer(machine().registers)
    vector = _Vector(ctypes.addressof(buffer), len(buffer))
    _ptrace(_GETREGSET, tid, _PRSTATUS, ctypes.addressof(vector))
    return buffer


def _set(tid: int, which: int, registers: ctypes.Array) -> None:
    vector = _Vector(ctypes.addressof(registers), len(registers))
    _ptrace(_SETREGSET, tid, which, ctypes.addressof(vector))


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, WALL)


_call = ctypes.CDLL(None, use_errno=True).ptrace if sys.platform == "linux" else None
if _call is not None:
    _call.restype = ctypes.c_long
    _call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request: int, tid: int, address: int, data: int) -> int:
    ctypes.set_errno(0)
    result = _call(request, tid, address, data)
    if result == -1 and (number := ctypes.get_errno()):
        if number == errno.ESRCH:
            raise ProcessLookupError(number, os.strerror(number))
        raise OSError(number, os.strerror(number))
    return result
