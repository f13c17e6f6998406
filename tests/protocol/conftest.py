import pytest
from tests.protocol.agents import FILE, House


@pytest.fixture
def house(tmp_path):
    """A folder with the ordinary file and no store yet."""
    house = House(tmp_path / "gateway")
    house.folder.mkdir()
    house.write(FILE)
    return house


@pytest.fixture
async def agent(house):
    async with house.agent() as agent:
        yield agent
