"""The short forms of the sections."""

import pytest
from tests.chaos.short import run_short
from tests.store_proofs import backups, damage


def quiet(_done, _total):
    pass


def test_backups_under_a_thousand_writes_a_second_restore_with_exact_totals(tmp_path):
    section = backups.run(4, 1, tmp_path, quiet)
    assert section.violations == []
    figures = dict(section.figures)
    assert figures["restored with exact totals"] == figures["backups"] == 4
    assert figures["files left beside the backups"] == 0


def test_whatever_call_of_a_command_fails_or_is_its_last_nothing_is_lost_and_the_next_one_works():
    """Forks, so it runs as a process of its own."""
    figures = run_short("interruptions", rounds=45, seed=3, proof="store_proofs")
    assert figures["rounds"] == 45
    assert figures["rounds: killed before"] >= 3
    assert figures["rounds: ENOSPC"] >= 3


@pytest.mark.unmeasured
def test_no_damage_crashes_a_report_or_changes_a_total_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "ROWS", 300)
    section = damage.run(12, 7, tmp_path, quiet)
    assert section.violations == []
    figures = dict(section.figures)
    assert figures["damaged stores"] == 12
    assert figures["refused by a report"] > 0
