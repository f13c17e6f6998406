"""The short forms of the sections: a sample of what ``python -m tests.hostile`` sends."""

import sys

import pytest
from tests.hostile import bodies, frames, hosts, tokens

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")


def figures_of(section):
    """Return the figures by name; every violation fails the test."""
    assert section.violations == []
    return dict(section.figures)


def quiet(_done, _total):
    pass


def test_no_foreign_name_is_let_in_at_any_path(tmp_path):
    figures = figures_of(hosts.run(25, 5, tmp_path, quiet))
    assert figures["admitted"] == 0
    assert figures["refused by the door (421, 403)"] > 20 * 22


def test_no_wrong_token_is_taken_for_a_right_one(tmp_path):
    figures = figures_of(tokens.run(400, 5, tmp_path, quiet))
    assert figures["accepted"] == 0
    assert figures["answered 401"] > 300
    assert figures["answered 429"] > 0


def test_a_server_survives_mutated_frames_on_every_transport(tmp_path):
    figures = figures_of(frames.run(200, 5, tmp_path, quiet))
    assert [figures[name].partition(";")[0] for name in frames.TRANSPORTS] == ["alive"] * 4
    assert all("answered" in figures[name] and "refused" in figures[name] for name in frames.TRANSPORTS)


@on_linux
def test_a_large_body_costs_no_memory(tmp_path):
    figures = figures_of(bodies.run(1, 5, tmp_path, quiet))
    assert "413 VALIDATION_ERROR" in figures["10^6 numbers in an argument"]
