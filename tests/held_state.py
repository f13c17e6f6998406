"""One state of a store, held in the thread of a reader while a test does something else."""

import asyncio
import queue
from contextlib import asynccontextmanager


class HeldState:
    """Asks for more of a state that is held; see ``held``."""

    def __init__(self):
        self._works = queue.SimpleQueue()

    async def ask(self, work, *args, **kwargs):
        """Return what ``work`` returns of the state."""
        answer = asyncio.get_running_loop().create_future()
        self._works.put((lambda reads: work(reads, *args, **kwargs), answer))
        return await answer

    async def read(self, sql, params=()):
        """Return all rows of one query."""
        return await self.ask(lambda reads: reads.read(sql, params))

    def work_off(self, reads, loop):
        """Do in the reader's thread what is asked for, until ``end``."""
        while (asked := self._works.get(timeout=30)) is not None:
            work, answer = asked
            loop.call_soon_threadsafe(answer.set_result, work(reads))

    def end(self):
        """Let go of the state."""
        self._works.put(None)


@asynccontextmanager
async def held(store):
    """Hold a state of ``store``, beginning with the first thing that is asked of it."""
    state = HeldState()
    task = asyncio.create_task(store.ask(state.work_off, asyncio.get_running_loop()))
    try:
        yield state
    finally:
        state.end()
        await task
