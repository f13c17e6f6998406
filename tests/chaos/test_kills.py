"""The short form of section ``kills``."""

from tests.chaos.short import run_short


def test_what_a_server_acknowledged_survives_that_it_is_killed():
    figures = run_short("kills", rounds=5, seed=3)
    assert figures["servers killed"] >= 5
    assert figures["changes answered as success"] >= 10
