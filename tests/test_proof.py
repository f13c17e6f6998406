"""How a long proof runs its sections, prints them and writes its page."""

import json
import os
import subprocess
import sys
import types

import pytest
from tests import proof
from tests.proof import CANNOT_RUN, Proof, Section

HEAD = "# A proof\n\n{date} {commit} {machine} seed {seed} {time} {extra}\n{verdict}\n"


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Makes a proof of the sections ``one`` and ``two``; ``violations`` are what ``one`` finds."""
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(proof, "ROOT", tmp_path)
    monkeypatch.setattr(proof, "_DISK", tmp_path)
    monkeypatch.setattr(proof.signal, "signal", lambda *_: None)

    def make(violations=(), **options):
        def run(rounds, seed, folder, progress):
            assert (folder.is_dir(), list(folder.iterdir())) == (True, [])
            progress(rounds, rounds)
            told = [f"{text}\n in {folder}/file" for text in violations]
            return Section("one", [("rounds", rounds), ("seed", seed), ("a | b", 1.25)], told, ["A note."])

        def two(*_arguments):
            return Section("two", [("x", 1, 2_000)], columns=("what", "here", "there"))

        one = {"ROUNDS": 40, "run": run, "repeat": lambda _seed, number, *rest: run(number, 99, *rest)}
        for name, parts in (("one", one), ("two", {"ROUNDS": 0, "run": two})):
            module = types.ModuleType(f"tests.of_a_proof_{name}")
            vars(module).update(NAME=name, TITLE=f"The {name}", CHECKED=f"Looked at {name}.\n", **parts)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return Proof(
            name="sample",
            description="Try.",
            sections={name: f"tests.of_a_proof_{name}" for name in ("one", "two")},
            page="sample.md",
            head=HEAD,
            tail="The end.\n",
            **{"facts": lambda: {"extra": "of mine"}, **options},
        )

    return make


@pytest.mark.parametrize(("violations", "code"), [([], 0), (["torn"], 1)])
def test_it_ends_with_1_when_something_was_violated_and_says_so_on_the_page(
    make, capsys, violations, code, tmp_path
):
    sample = make(violations)
    assert sample.main(["--write-docs", "--seed", "7"]) == code
    printed, written = capsys.readouterr().out, sample.path.read_text()
    assert sample.path == tmp_path / "docs" / "sample.md"
    for text in (printed, written):
        for line in (
            "| rounds | 40 |",
            "| seed | 7 |",
            "| a \\| b | 1.2 |",
            "A note.",
            "| what | here | there |",
            "| x | 1 | 2,000 |",
        ):
            assert line in text
        assert ("torn in /one/file" in text) == bool(violations)
    assert "40 of 40" in printed
    assert "## The one\n\nLooked at one.\n\n| `one`, 0 s |  |\n|---|---|\n" in written
    assert "seed 7" in written
    assert "of mine" in written
    assert ("Nothing was violated." in written) == (not violations)
    assert written.endswith("The end.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


@pytest.mark.parametrize(
    ("asked", "rounds"), [([], 40), (["--part", "0.1"], 4), (["--part", "0.001"], 1), (["--rounds", "3"], 3)]
)
def test_rounds_are_the_section_s_own_a_part_of_them_or_as_many_as_asked_for(make, capsys, asked, rounds):
    assert make().main(["--only", "one", "--json", *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"][0] == ["rounds", rounds]
    assert found["violations"] == []


def test_one_round_is_made_again(make, capsys):
    assert make().main(["--only", "one", "--round", "17", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"][0] == ["rounds", 17]


def test_a_machine_that_cannot_run_it_is_told_so_before_anything_is_done(make, capsys):
    sample = make(["torn"], why_not=lambda: "there is no ptrace")
    assert sample.main([]) == CANNOT_RUN
    assert capsys.readouterr().out == "tests.sample cannot run: there is no ptrace\n"


@pytest.mark.parametrize("asked", [["--only", "one", "--write-docs"], ["--round", "3"], ["--only", "three"]])
def test_a_page_of_some_sections_or_a_round_of_all_is_refused(make, asked):
    with pytest.raises(SystemExit) as ended:
        make().main(asked)
    assert ended.value.code == 2


def test_what_is_attempted_and_fails_is_noted(tmp_path):
    section = Section("one")
    assert section.attempt("adding", lambda: 1 + 1) == "2"
    assert section.attempt("reading", (tmp_path / "nothing").read_text) == "**failed**"
    assert "reading: FileNotFoundError" in section.violations[0]


@pytest.mark.parametrize("name", ["chaos", "hostile", "conformance", "store_proofs"])
def test_every_proof_has_its_sections_a_page_and_a_target(name, pytestconfig):
    root = pytestconfig.rootpath
    program = (
        f"import importlib; from tests.{name}.__main__ import PROOF as p\n"
        "for module in map(importlib.import_module, p.sections.values()):\n"
        "    assert module.TITLE and module.CHECKED and module.ROUNDS >= 0 and callable(module.run), module\n"
        "p.document([], 1); print(p.path)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    page = root / "docs" / done.stdout.strip().rpartition("/")[2]
    target = name.replace("_", "-")
    assert f"`make {target}` writes this page." in page.read_text()
    assert f"-m tests.{name} --write-docs" in (root / "Makefile").read_text()
