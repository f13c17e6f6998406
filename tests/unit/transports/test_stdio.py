"""The pipe to a client: whole messages in their order, however slowly it reads, and nothing that others print."""

import os
import socket
import sys
import threading
from contextlib import contextmanager, suppress

import pytest

from voicegw_mcp.transports.stdio import _put_aside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the SDK writes")
WAIT_S = 10
MESSAGES = [f"{number} {'ä' * size}\n" for number, size in enumerate((0, 10, 300_000, 5, 70_000, 1))]


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


@contextmanager
def piped(connected=os.pipe):
    """Make standard output a pipe; give the end that is read."""
    read, write = connected()
    with output_is(write):
        yield read
    with suppress(OSError):
        os.close(read)


@pytest.mark.parametrize("connected", [os.pipe, sockets])
async def test_messages_come_whole_and_in_order_to_a_client_that_reads_late(connected):
    began, found = threading.Event(), []

    def read():
        began.wait(WAIT_S)
        while chunk := os.read(pipe, 1 << 16):
            found.append(chunk)

    with piped(connected) as pipe:
        client = threading.Thread(target=read)
        client.start()
        with _put_aside() as wire:
            for message in MESSAGES:
                if len(message) > 100_000:  # more than a pipe holds
                    began.set()
                await wire.write(message)
                await wire.flush()
        os.dup2(2, 1)  # the last end for writing
        client.join(WAIT_S)
    assert b"".join(found).decode() == "".join(MESSAGES)


async def test_what_others_print_goes_to_standard_error_meanwhile(capfd):
    with piped() as pipe:
        with _put_aside() as wire:
            os.write(1, b"printed\n")
            await wire.write("message\n")
        os.write(1, b"afterwards\n")
        assert os.read(pipe, 100) == b"message\nafterwards\n"
    assert capfd.readouterr() == ("", "printed\n")


@pytest.mark.parametrize("connected", [os.pipe, sockets])
def test_others_who_have_the_pipe_still_wait_for_its_reader(connected):
    with piped(connected):
        mine = os.dup(1)
        with _put_aside():
            assert os.get_blocking(mine)
        assert os.get_blocking(mine)
        os.close(mine)


@pytest.mark.parametrize("connected", [os.pipe, sockets])
async def test_a_client_that_went_away_is_told_of(connected):
    with piped(connected) as pipe, _put_aside() as wire:
        os.close(pipe)
        with pytest.raises(BrokenPipeError):
            await wire.write("message\n")


def test_a_file_is_left_to_the_sdk(tmp_path):
    with output_is(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)), _put_aside() as wire:
        assert wire is None
