import pytest
from tests.protocol.agents import FILE, House
from tests.protocol.api_client import Site


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


@pytest.fixture
async def site(house):
    """The whole HTTP application on the ordinary file; it asks for a token once one is configured."""
    gateway = house.gateway("http")
    yield Site(gateway)
    await gateway.close()
