"""The pipe to a client: whole messages in their order, however slowly it reads, and nothing that others print."""

import errno
import os
import select
import socket
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
from anyio import to_thread

from voicegw_mcp.core.answer_size import MOST_BYTES
from voicegw_mcp.transports.stdio import _put_aside

if sys.platform != "win32":
    import fcntl

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how much fits is known of Linux")
WAIT_S = 10
MESSAGES = [f"{number} {'ä' * size}\n" for number, size in enumerate((0, 10, 300_000, 5, 70_000, 1))]


async def unexpected(error):
    raise error


@contextmanager
def output_is(descriptor):
    """Make it standard output meanwhile; in the test itself, as pytest sets its own one before each."""
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def sockets():
    """Return the ends of a connection, as ``os.pipe`` does."""
    return tuple(end.detach() for end in socket.socketpair())


def terminal():
    """Return both ends of one that changes nothing on the way."""
    import tty  # not on Windows

    read, write = os.openpty()
    tty.setraw(write)
    return read, write


CONNECTED = pytest.mark.parametrize("connected", [os.pipe, sockets, terminal])


@contextmanager
def piped(connected=os.pipe):
    """Make standard output a pipe; give the end that is read."""
    read, write = connected()
    with output_is(write):
        yield read
    with suppress(OSError):
        os.close(read)


def read_all(descriptor):
    """Return what comes until its last other end is closed."""
    found = []
    with suppress(OSError):  # how a terminal tells so
        while chunk := os.read(descriptor, 1 << 16):
            found.append(chunk)
    return b"".join(found)


@CONNECTED
async def test_messages_come_whole_and_in_order_to_a_client_that_reads_late(connected):
    began, found = threading.Event(), []

    def read():
        began.wait(WAIT_S)
        found.append(read_all(pipe))

    with piped(connected) as pipe:
        client = threading.Thread(target=read)
        client.start()
        with _put_aside(unexpected) as wire:
            for message in MESSAGES:
                if len(message) > 100_000:  # more than a pipe holds
                    began.set()
                await wire.write(message)
                await wire.flush()
        os.dup2(2, 1)  # the last end for writing
        client.join(WAIT_S)
    assert found == ["".join(MESSAGES).encode()]


@CONNECTED
async def test_messages_come_whole_and_in_order_though_others_set_that_nothing_waits(connected, monkeypatch):
    full, found = threading.Event(), []
    plain_select = select.select

    def wait_for_room(*asked):
        full.set()
        return plain_select(*asked, WAIT_S)

    def read():
        full.wait(WAIT_S)  # only what was full is read
        found.append(read_all(pipe))

    monkeypatch.setattr(select, "select", wait_for_room)
    with piped(connected) as pipe:
        os.set_blocking(1, False)
        client = threading.Thread(target=read)
        client.start()
        with _put_aside(unexpected) as wire:
            for message in MESSAGES:
                await wire.write(message)
        os.dup2(2, 1)  # the last end for writing
        client.join(WAIT_S)
    assert full.is_set()
    assert found == ["".join(MESSAGES).encode()]


async def test_an_answer_of_the_longest_fits_into_a_pipe_before_it_is_read(monkeypatch):
    async def ask_thread(*_):
        raise AssertionError("it did not fit")

    monkeypatch.setattr(to_thread, "run_sync", ask_thread)
    answer = "x" * 3 * MOST_BYTES + "\n"  # as text with escaped quotes, and as data
    with piped() as pipe:
        with _put_aside(unexpected) as wire:
            await wire.write(answer)
        os.dup2(2, 1)  # the last end for writing
        assert read_all(pipe) == answer.encode()


async def test_a_pipe_that_may_not_grow_is_written_to_all_the_same(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with piped() as pipe:
        with _put_aside(unexpected) as wire:
            await wire.write("message\n")
        assert os.read(pipe, 100) == b"message\n"


async def test_what_others_print_goes_to_standard_error_meanwhile(capfd):
    with piped() as pipe:
        with _put_aside(unexpected) as wire:
            os.write(1, b"printed\n")
            await wire.write("message\n")
        os.write(1, b"afterwards\n")
        assert os.read(pipe, 100) == b"message\nafterwards\n"
    assert capfd.readouterr() == ("", "printed\n")


@pytest.mark.parametrize("connected", [os.pipe, sockets])
def test_others_who_have_the_pipe_still_wait_for_its_reader(connected):
    with piped(connected):
        mine = os.dup(1)
        with _put_aside(unexpected):
            assert os.get_blocking(mine)
        assert os.get_blocking(mine)
        os.close(mine)


@pytest.mark.parametrize("connected", [os.pipe, sockets])
async def test_a_client_that_went_away_is_told_of(connected):
    told = []

    async def end_lost(error):
        told.append(error)

    with piped(connected) as pipe, _put_aside(end_lost) as wire:
        os.close(pipe)
        await wire.write("message\n")
    (error,) = told
    assert isinstance(error, BrokenPipeError)


async def test_a_file_takes_every_message(tmp_path):
    with output_is(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)), _put_aside(unexpected) as wire:
        for message in MESSAGES:
            await wire.write(message)
    assert (tmp_path / "out").read_text() == "".join(MESSAGES)
