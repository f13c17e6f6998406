"""What each role may do, at every tool."""

import pytest
from tests.protocol.agents import FILE

from voicegw_mcp.core.access import Access
from voicegw_mcp.core.undo import undo_change
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfirmationRequired, Forbidden
from voicegw_mcp.tools import TOOLS

BY_NAME = {tool.name: tool for tool in TOOLS}
ADDS = [
    ("add_provider", {"provider_id": "groq", "provider_type": "groq"}),
    ("register_model", {"modality": "llm", "provider_id": "ollama", "model_name": "phi"}),
    ("create_project", {"project_id": "new", "name": "New"}),
]
UPDATES = [
    ("add_provider", {"provider_id": "ollama", "provider_type": "openai", "on_conflict": "update"}),
    ("register_model", {"modality": "stt", "provider_id": "deepgram", "model_name": "nova-3", "default_language": "de", "on_conflict": "update"}),
    ("create_project", {"project_id": "support-line", "name": "Renamed", "tags": [], "on_conflict": "update"}),
]  # fmt: skip
DELETES = [
    ("delete_provider", {"provider_id": "deepgram", "cascade": True}),
    ("delete_model", {"model_id": "ollama/qwen3", "cascade": True}),
    ("delete_project", {"project_id": "support-line"}),
]
READS = [
    ("get_health", {}),
    ("list_providers", {}),
    ("get_provider", {"provider_id": "openai"}),
    ("list_models", {}),
    ("list_projects", {}),
    ("get_project", {"project_id": "support-line"}),
    ("get_costs", {}),
    ("get_logs", {}),
]


@pytest.fixture
def path(gateway):
    gateway.config_file.path.write_text(FILE)
    return gateway.config_file.path


@pytest.fixture
def call(gateway, path):  # noqa: ARG001 - the file must be there
    async def call(role, name, arguments):
        tool = BY_NAME[name]
        caller = gateway.as_caller("x", Access(role))
        return (await tool.run(caller, tool.parse(arguments))).as_json()

    return call


def names(call):
    return call[0]


@pytest.mark.parametrize("read", READS, ids=names)
@pytest.mark.parametrize("role", Role)
async def test_every_role_reads(call, role, read):
    await call(role, *read)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("write", [*ADDS, *UPDATES], ids=names)
async def test_a_viewer_writes_nothing_and_plans_nothing(call, path, write, dry_run):
    name, arguments = write
    with pytest.raises(Forbidden) as caught:
        await call(Role.VIEWER, name, {**arguments, "dry_run": dry_run})
    assert caught.value.details == {"role": "viewer", "needed": "operator"}
    assert path.read_text() == FILE


@pytest.mark.parametrize(
    "terms", [{}, {"confirm": True}, {"dry_run": True}, {"confirm": True, "dry_run": True}]
)
@pytest.mark.parametrize("delete", DELETES, ids=names)
async def test_a_viewer_deletes_nothing(call, path, delete, terms):
    name, arguments = delete
    with pytest.raises(Forbidden):
        await call(Role.VIEWER, name, {**arguments, **terms})
    assert path.read_text() == FILE


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
@pytest.mark.parametrize("write", [*ADDS, *UPDATES], ids=lambda write: " ".join(map(str, write[1].values())))
async def test_operators_and_administrators_add_and_update(call, path, role, write):
    await call(role, *write)
    assert path.read_text() != FILE


@pytest.mark.parametrize("delete", DELETES, ids=names)
async def test_an_operator_learns_the_impact_of_a_delete_but_may_not_do_it(call, path, delete):
    name, arguments = delete
    with pytest.raises(ConfirmationRequired):
        await call(Role.OPERATOR, name, arguments)
    for terms in ({"confirm": True}, {"confirm": True, "dry_run": True}):
        with pytest.raises(Forbidden) as caught:
            await call(Role.OPERATOR, name, {**arguments, **terms})
        assert caught.value.details == {"role": "operator", "needed": "admin"}
    assert path.read_text() == FILE


@pytest.mark.parametrize("delete", DELETES, ids=names)
async def test_an_administrator_deletes(call, path, delete):
    name, arguments = delete
    await call(Role.ADMIN, name, {**arguments, "confirm": True})
    assert path.read_text() != FILE


async def test_only_an_administrator_undoes(gateway, call, path):
    change = await call(Role.OPERATOR, *ADDS[0])
    after = path.read_text()
    for role in (Role.VIEWER, Role.OPERATOR):
        with pytest.raises(Forbidden):
            await undo_change(gateway.as_caller("x", Access(role)), change["change_id"], tool="undo")
        assert path.read_text() == after
    await undo_change(gateway.as_caller("x", Access(Role.ADMIN)), change["change_id"], tool="undo")
    assert path.read_text() == FILE


async def test_a_refused_call_leaves_no_row_in_the_journal(gateway, call):
    for role, (name, arguments) in ((Role.VIEWER, ADDS[0]), (Role.OPERATOR, DELETES[0])):
        with pytest.raises(Forbidden):
            await call(role, name, {**arguments, **({"confirm": True} if role is Role.OPERATOR else {})})
    store = await gateway.store()
    rows = await store.run(
        lambda transact: transact(lambda db: db.execute("SELECT id FROM changes").fetchall())
    )
    assert rows == []


def test_the_role_that_is_needed_and_the_one_that_came_are_told():
    with pytest.raises(Forbidden) as caught:
        Access(Role.VIEWER).require(Role.ADMIN, "Undoing")
    assert str(caught.value.message) == "Undoing needs the role admin; this token has viewer."
    Access().require(Role.ADMIN, "Undoing")
