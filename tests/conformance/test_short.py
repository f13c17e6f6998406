"""The short form of ``python -m tests.conformance``: the 17 scenarios, a few restarts, and how the command reports."""

import pytest
from tests import npm
from tests.conformance import __main__ as command, page, restarts, suite
from tests.conformance.scene import Scene
from tests.conformance.section import Section

ROUNDS = 4


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
    assert section.failures == []
    assert section.rows == [(restarts.WENT_ON, f"{ROUNDS} of {ROUNDS}")]
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()


@pytest.mark.parametrize(("failures", "code"), [([], 0), (["a thing"], 1)])
def test_the_command_ends_with_1_when_something_failed_and_says_so_on_the_page(
    monkeypatch, tmp_path, capsys, failures, code
):
    class Module:
        NAME, TITLE, CHECKED = "one", "One thing", "Looked at."

        def run(self, folder, rounds):
            assert folder.is_dir()
            return Section(("what", "figure"), [("rounds", rounds)], failures)

    monkeypatch.setattr(command, "SECTIONS", {"one": Module()})
    monkeypatch.setattr(page, "PAGE", tmp_path / "conformance.md")
    assert command.main(["--write-docs", "--rounds", "3"]) == code
    written = page.PAGE.read_text()
    for text in (capsys.readouterr().out, written):
        assert "| rounds | 3 |" in text
        assert ("a thing" in text) == bool(failures)
    assert ("Nothing failed." in written) == (not failures)


def test_what_is_attempted_and_fails_is_noted(tmp_path):
    section = Section(("what", "came of it"))
    assert section.attempt("reading", (tmp_path / "nothing").read_text) == "**failed**"
    assert "reading: FileNotFoundError" in section.failures[0]
