"""Five stories: what happens to agents that pay, each in cycles that are the same for the same seed.

healthy   buys, pays and tells the truth; its wallet sessions are renewed in time
poor      runs low, pauses, queues, asks for money, is topped up and catches up
flaky     retries, opens its circuit breaker, probes, pays twice now and then
cheated   pays and gets nothing to show for it; meets the limit of its wallet session
liar      claims settlements that the chain does not know, among true ones
"""

from collections.abc import Callable, Mapping

from sandbox.agents import Agent, Story
from sandbox.stories.cheated import Cheated
from sandbox.stories.flaky import Flaky
from sandbox.stories.healthy import Healthy
from sandbox.stories.liar import Liar
from sandbox.stories.poor import Poor

__all__ = ["STORIES", "Healthy"]

STORIES: Mapping[str, Callable[[Agent], Story]] = {
    "healthy": Healthy,
    "poor": Poor,
    "flaky": Flaky,
    "cheated": Cheated,
    "liar": Liar,
}
