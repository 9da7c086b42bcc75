"""Which assets may be sampled: the mint on the chain must be what the assets table says.

A wrong token program would give a wrong token account and a silent zero; wrong decimals a wrong price of everything.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from collector.accounts import MINT_HEAD, TOKEN_PROGRAMS, AccountState, mint_decimals
from collector.metrics import SampleMetrics
from collector.rpc import MAX_ACCOUNTS, SolanaRpc
from collector.rpc_errors import MalformedAnswer
from store.logs import event
from store.sampling import SampledAsset

ASSET_REFUSED = "asset_refused"
ASSET_ACCEPTED = "asset_accepted"

log = logging.getLogger(__name__)


class MintCheck:
    """Asks the chain about every mint once; about refused ones again at every run."""

    def __init__(self, rpc: SolanaRpc, metrics: SampleMetrics) -> None:
        self._rpc = rpc
        self._metrics = metrics
        self._accepted: set[SampledAsset] = set()
        self._refused: dict[SampledAsset, str] = {}

    async def usable(self, assets: Sequence[SampledAsset]) -> list[SampledAsset]:
        """Those of `assets` that may be sampled, in their order. Raises RpcError: the chain could not be asked."""
        self._accepted.intersection_update(assets)
        unknown = [asset for asset in assets if asset not in self._accepted]
        for start in range(0, len(unknown), MAX_ACCOUNTS):
            await self._check(unknown[start : start + MAX_ACCOUNTS])
        return [asset for asset in assets if asset in self._accepted]

    async def _check(self, assets: Sequence[SampledAsset]) -> None:
        asked = [asset for asset in assets if asset.mint is not None and len(asset.mint) == 32]
        answer = await self._ask([asset.mint or b"" for asset in asked])
        found = dict(zip(asked, answer, strict=True))
        for asset in assets:
            self._judge(asset, _why_not(asset, found.get(asset)))

    async def _ask(self, mints: list[bytes]) -> list[AccountState | None]:
        return (await self._rpc.get_multiple_accounts(mints, head=MINT_HEAD)).accounts if mints else []

    def _judge(self, asset: SampledAsset, reason: str | None) -> None:
        self._metrics.asset_checked(asset.symbol, refused=reason is not None)
        was = self._refused.pop(asset, None)
        if reason is None:
            self._accepted.add(asset)
            if was is not None:
                event(log, logging.INFO, ASSET_ACCEPTED, asset=asset.symbol)
            return
        self._refused[asset] = reason
        if reason != was:
            event(log, logging.ERROR, ASSET_REFUSED, asset=asset.symbol, reason=reason)


def _why_not(asset: SampledAsset, mint: AccountState | None) -> str | None:
    """Why an asset cannot be sampled; None: it can."""
    if asset.mint is None:
        return None
    if asset.token_program not in TOKEN_PROGRAMS:
        return "no token program that we know is registered"
    if mint is None:
        return "the chain has no such mint"
    return _why_not_mint(asset, mint)


def _why_not_mint(asset: SampledAsset, mint: AccountState) -> str | None:
    if mint.owner != asset.token_program:
        return "its mint belongs to another token program"
    try:
        decimals = mint_decimals(mint)
    except MalformedAnswer:
        return "the chain has something else than a mint there"
    if asset.decimals is not None and decimals != asset.decimals:
        return f"its mint has {decimals} decimals, {asset.decimals} are registered"
    return None
