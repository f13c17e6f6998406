"""The short form of section ``faults``: a sample over calls and faults, which ``make chaos`` makes in full.

The harness forks, so it runs as a process of its own, not in a worker of the test runner.
"""

from tests.chaos.short import run_short


def test_a_fault_at_any_system_call_leaves_file_journal_and_answer_in_agreement():
    figures = run_short("faults", rounds=60, seed=3)
    assert figures["rounds"] == 60
    assert figures["rounds: killed before"] >= 5
    assert figures["rounds: EIO"] >= 5
    assert figures["ended with the old file"] >= 5
    assert figures["ended with the new file"] >= 5
    # What a power cut needs: which call is synced before which other one is made.
    assert figures["changes whose calls are out of order"] == 0
