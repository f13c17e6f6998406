"""The rules of the house that a linter does not know."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from voicegw_mcp import errors

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_source_file_has_one_stated_purpose_and_at_most_400_lines(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module says why it exists"
    assert not {"utils", "helpers", "manager", "base"} & set(
        path.relative_to(ROOT / "src").with_suffix("").parts
    )


def test_importing_a_module_loads_no_heavy_library_and_prints_nothing():
    program = (
        "import sys, voicegw_mcp.server, voicegw_mcp.transports.stdio, voicegw_mcp.cli.stdio\n"
        "heavy = {'livekit', 'typer', 'rich', 'genai_prices', 'voice_prices', 'filelock', 'yaml_edit'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_dependency_has_a_reason_in_the_architecture_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    names = {re.match(r"[A-Za-z0-9_-]+", item)[0] for group in groups for item in group}
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert {name for name in names if name not in page} == set()


def test_every_error_code_is_documented_with_its_exit_code():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = {
        code: int(line.rstrip(" |").rpartition("|")[2])
        for line in page.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([A-Z_]+)`", line.split("|")[1])
    }
    kinds = ("PROVIDER", "MODEL", "PROJECT")
    expected = {}
    for cls in errors.GatewayError.__subclasses__():
        if cls in (errors.NotFound, errors.AlreadyExists):
            suffix = "NOT_FOUND" if cls is errors.NotFound else "ALREADY_EXISTS"
            expected |= {f"{kind}_{suffix}": cls.exit_code for kind in kinds}
        else:
            expected[cls.code if "code" in vars(cls) else "INTERNAL_ERROR"] = cls.exit_code
    assert rows == expected


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_stays_under_200_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.cover_processes
def test_generated_files_are_what_the_code_says():
    command = [sys.executable, "-m", "voicegw_mcp.tools.render", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
