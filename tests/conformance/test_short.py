"""The short form of ``python -m tests.conformance``: the 17 scenarios and a few restarts."""

import pytest
from tests import npm
from tests.conformance import restarts, suite
from tests.conformance.scene import Scene

ROUNDS = 2


@pytest.fixture(scope="session")
def installed():
    try:
        return npm.install(suite.SOURCE)
    except npm.NpmFailed as error:
        pytest.skip(f"npm could not install the conformance suite: {error}")


@pytest.mark.parametrize("revision", suite.FIXTURE_FREE)
@pytest.mark.usefixtures("installed")
def test_the_server_as_shipped_passes_the_scenarios_that_need_no_fixtures(tmp_path, revision):
    scene = Scene(tmp_path)
    with scene.served() as server:
        found = suite.run_suite(suite.NEXT, server.mcp, revision, tmp_path / "found")
    by_name = {scenario.name: scenario for scenario in found}
    for name in suite.FIXTURE_FREE[revision]:
        assert by_name[name].failures == []
        assert by_name[name].statuses["SUCCESS"] > 0
    assert by_name["tools-call-simple-text"].failures != []  # the suite does find what is not there


@pytest.mark.parametrize("revision", suite.FIXTURE_FREE)
@pytest.mark.usefixtures("installed")
def test_with_the_suite_s_fixtures_on_the_same_server_every_scenario_passes(tmp_path, revision):
    with suite.fixtures_served(Scene(tmp_path)) as url:
        found = suite.run_suite(suite.NEXT, url, revision, tmp_path / "found")
    assert len(found) > 30
    assert {scenario.name: scenario.failures for scenario in found if scenario.failures} == {}
    assert {scenario.name for scenario in found} >= set(suite.FIXTURE_FREE[revision])


def test_clients_go_on_after_the_server_was_killed_or_stopped_and_started_again(tmp_path):
    section, _ = restarts.end_and_start(tmp_path, ROUNDS)
    assert section.violations == []
    assert section.figures == [(restarts.WENT_ON, f"{ROUNDS} of {ROUNDS}")]
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()
