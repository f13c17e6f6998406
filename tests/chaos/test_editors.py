"""The short form of section ``editors``."""

from tests.chaos.short import run_short


def test_what_a_human_saves_while_a_change_is_written_is_never_lost():
    figures = run_short("editors", rounds=60, seed=3)
    assert figures["interleavings"] == 60
    assert figures["edit and change both in the file, answered as success"] > 0
    assert figures["edit in the file, change refused"] > 0
