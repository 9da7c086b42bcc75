"""What the tests of stories share: telling one, looking at it, and Tollwatch's own word on what it can read."""

import contextlib
import dataclasses

import msgspec
import pytest
from sandbox_tools import Recorder, Rpc, eventually, open_world, rpc_of, serving

from api import events, registry, sessions
from sandbox import agents
from sandbox.clock import WallClock
from sandbox.places import Setting

FAST = {"slot_ms": 20, "speed": 100.0, "pace": 1.0}
"""A world in which a story's cycle takes about as long as its purchases do."""

QUEUE = {
    "type", "id", "agent", "request_id", "state", "priority_score", "reason", "asset", "balance", "freshness_s",
}  # fmt: skip
SESSION = {
    "wallet", "network", "token_hash", "scope", "tx_used", "status", "delegated_at", "expires_at", "revoked_at",
}  # fmt: skip


def agent_of(world, profile, tollwatch, *, speed=1.0, **places):
    """One agent in this world, alone, with places of its own where they are named."""
    settled = dataclasses.replace(world.places, tollwatch=tollwatch, tollwatch_key="k", **places)
    setting = Setting(
        places=settled, treasury=world.wallets.treasury, unix_ms=WallClock(), speed=speed, poll_s=world._poll_s
    )
    return agents.Agent(profile, world.wallets.agents[profile.name], setting)


def check_shape(event):
    """Whether Tollwatch's API can read the event: by its own structs."""
    assert None not in event.values()
    msgspec.json.decode(msgspec.json.encode(event), type=events.EVENT_TYPES[event["type"]])
    assert event["type"] != "queue" or set(event) == QUEUE


def check_registration(path, body):
    """Whether Tollwatch's API can read the registration."""
    models = {"wallets": registry.WalletBody, "sessions": sessions.SessionBody}
    kind = path.split("/")[4] if path.count("/") > 3 else ""
    models.get(kind, registry.AgentBody).model_validate_json(msgspec.json.encode(body))
    assert kind != "sessions" or set(body) == SESSION


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """A story that has been told: what Tollwatch heard of it, what the books say, and the chain to ask."""

    recorder: Recorder
    books: dict
    rpc: Rpc

    def account(self, name):
        return next(one for one in self.books["agents"] if one["name"] == name)

    def audits(self, *event_types):
        return [one for one in self.recorder.of_type("audit") if not event_types or one["event_type"] in event_types]

    def ended(self, status):
        """{payment_id: event} of the payments that ended so."""
        return {one["payment_id"]: one for one in self.recorder.of_type("payment") if one["status"] == status}

    async def spent(self, signature, owner, mint):
        """Atomic units that the transaction took from `owner`; None when the chain does not know it."""
        found = await self.rpc.call(
            "getTransaction", signature, {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
        )
        if found is None:
            return None
        assert found["meta"]["err"] is None
        return sum(
            sign * int(held["uiTokenAmount"]["amount"])
            for sign, side in ((1, "preTokenBalances"), (-1, "postTokenBalances"))
            for held in found["meta"][side]
            if (held["owner"], held["mint"]) == (owner, mint)
        )


@contextlib.asynccontextmanager
async def told(*story, **options):
    """Tell stories to their end, then look at them while their world still stands."""
    recorder = Recorder()
    settings = FAST | {"cycles": 1} | options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agents, "LEAST_ANSWER_TIMEOUT_S", 1.5)
        async with serving(recorder.app()) as url, open_world(
            tollwatch_url=url, story=story, **settings
        ) as world:  # fmt: skip
            await world.stories_told()
            await eventually(lambda: all(agent.recorder.settled for agent in world.agents))
            async with rpc_of(world) as rpc:
                yield Told(recorder=recorder, books=world.books(), rpc=rpc)
    for event in recorder.events:
        check_shape(event)
    for path, body in recorder.puts:
        check_registration(path, body)
