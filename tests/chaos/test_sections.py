"""The short forms of the sections that trace nothing: they run in the test's own process, one round after the other."""

import pytest
from tests.chaos import first_starts, plans, reload, undo, writers

pytestmark = pytest.mark.unmeasured


def in_turn(items, make, _progress):
    """Stand in for ``cores.spread``: a worker of the test runner has threads and may not fork."""
    return [make(item) for item in items]


def quiet(_done, _total):
    pass


def outcome(section):
    """Return the figures by name; every violation fails the test."""
    assert section.violations == []
    return dict(section.figures)


def test_processes_that_write_at_once_lose_nothing_and_overwrite_nothing(tmp_path):
    figures = outcome(writers.contend(4, 15, 5, tmp_path, quiet))
    assert figures["calls"] == 4 * 15
    assert figures["in the file and the journal"] == figures["links of the unbroken chain"] > 0


def test_two_servers_that_start_on_nothing_at_the_same_moment_both_work(tmp_path):
    assert outcome(first_starts.run(3, 5, tmp_path, quiet))["both servers worked"] == "3 of 3"


def test_a_dry_run_tells_exactly_what_the_same_call_then_does(tmp_path):
    figures = outcome(plans.run(60, 5, tmp_path, quiet, in_turn))
    assert figures["plans"] == 60
    assert figures["same diff, and the file as the diff says"] > 0
    assert figures["stale ones refused with CONFLICT, nothing written"] > 0


def test_a_server_goes_on_working_whatever_becomes_of_the_file(tmp_path):
    figures = outcome(reload.run(80, 5, tmp_path, quiet, in_turn))
    assert figures["damaged files"] == 80
    assert figures["mended: in force at the next call"] == 2 * 80
    assert figures["broken: place named, last good version served, changes refused"] > 0
    assert figures["still valid: served"] > 0


def test_sequences_of_changes_are_taken_back_byte_for_byte(tmp_path):
    figures = outcome(undo.run(25, 5, tmp_path, quiet, in_turn))
    assert figures["sequences in which everything held"] == figures["sequences"] == 25
