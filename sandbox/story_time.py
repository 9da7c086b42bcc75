"""An agent's own time: the pauses of its story, added up, whatever the speed at which the story is told."""

import asyncio
import contextlib

from sandbox.errors import Stopping


class StoryTime:
    """`now_s` counts only pauses, so what follows from it is the same at every speed and on every machine."""

    def __init__(self, speed: float) -> None:
        self.now_s = 0.0
        self._speed = speed
        self._stopping = asyncio.Event()

    def real_s(self, seconds: float) -> float:
        """How long a pause of so many seconds lasts on the wall's clock."""
        return seconds / self._speed

    async def pause(self, seconds: float, *, at_least_s: float = 0.0) -> None:
        """Wait, on the wall's clock `at_least_s`. Raises Stopping as soon as the agent is to stop."""
        self.now_s += seconds
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(at_least_s, self.real_s(seconds)))
        if self._stopping.is_set():
            raise Stopping("the agent is to stop")

    async def wait(self, real_s: float) -> None:
        """Pause so that it lasts so long on the wall's clock. Raises Stopping."""
        await self.pause(real_s * self._speed)

    def stop(self) -> None:
        """End every pause, this one and the next."""
        self._stopping.set()
