import pytest_asyncio
from sandbox_tools import open_world, rpc_of

from sandbox.clock import ManualClock


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clock():
    return ManualClock()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(clock):
    """One world for the module's tests; its clock moves only when a test moves it."""
    async with open_world(clock) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rpc(world):
    async with rpc_of(world) as client:
        yield client
