"""The balance source: at every tick, what every registered wallet has in every asset that everyone is sampled in.

    wallets, assets (store.sampling) → accounts, 100 a call → samples → FactWriter

`ts` of a sample is the scheduled tick, so a run that is repeated writes the same keys. A batch that fails is counted
and leaves no sample; the others are written. Nothing is queued: what a run cannot write, the next one reads anew.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from collector.accounts import TOKEN_ACCOUNT_HEAD, AccountsAt
from collector.metrics import SampleMetrics
from collector.rpc import COMMITMENT, MAX_ACCOUNTS, SolanaRpc
from collector.rpc_errors import IncompleteRun, MalformedAnswer
from collector.sources.mints import MintCheck
from collector.sources.targets import Reading, Target, by_account, plan, read_amount
from store.deadlines import Deadlines
from store.errors import RpcError
from store.facts import BalanceSample, Facts, Stored
from store.logs import event
from store.sampling import SampledWallet, sampled_assets, sampled_wallets
from store.settings import Settings

SAMPLE_FAILED = "sample_failed"
SAMPLE_REFUSED = "sample_refused"
SAMPLED = "sampled"
WALLETS_SKIPPED = "wallets_skipped"

READ_SHARE = 0.7
"""Of a run's deadline, the part for reading the chain; the rest is for writing what was read."""
ROWS_PER_WRITE = 5_000
ADDRESS_BYTES = 32

log = logging.getLogger(__name__)

Batch = list[tuple[bytes, list[Target]]]


class Writer(Protocol):
    """Where samples go; `store.writer.FactWriter` is the real one."""

    async def write(self, facts: Facts) -> Stored:
        """Store a batch in one transaction. Raises DatabaseError."""


@dataclass(kw_only=True)
class _Reads:
    """What the batches of one run gave."""

    samples: list[BalanceSample] = field(default_factory=list)
    ok: int = 0
    errors: list[str] = field(default_factory=list)
    refused: dict[Target, str] = field(default_factory=dict)


class BalanceSource:
    """Samples balances; `run` is called at every tick, never twice at once."""

    name = "balances"

    def __init__(
        self,
        engine: AsyncEngine,
        rpc: SolanaRpc,
        writer: Writer,
        settings: Settings,
        *,
        deadlines: Deadlines,
        metrics: SampleMetrics,
    ) -> None:
        self._engine = engine
        self._rpc = rpc
        self._writer = writer
        self._settings = settings
        self._read_seconds = deadlines.source_run * READ_SHARE
        self._metrics = metrics
        self._mints = MintCheck(rpc, metrics)
        self._skipped = 0
        self._refused: set[Target] = set()

    async def run(self, tick: datetime) -> None:
        """Sample everything once, for `tick` (UTC, whole milliseconds).

        Raises DatabaseError, RpcError (nothing could be read) or IncompleteRun (the rest is written).
        """
        batches = await self._plan()
        reads = await self._read(batches, tick)
        await self._write(reads.samples)
        if reads.samples or not batches:
            self._metrics.wrote_tick(tick.timestamp())
        self._report(reads, len(batches))

    async def _plan(self) -> list[Batch]:
        network = self._settings.network
        wallets, total = await sampled_wallets(self._engine, network, self._settings.max_wallets)
        self._count_wallets(len(wallets), total)
        usable = [wallet for wallet in wallets if self._has_address(wallet)]
        assets = await self._mints.usable(await sampled_assets(self._engine, network)) if usable else []
        accounts = iter(by_account(plan(usable, assets)).items())
        return list(iter(lambda: list(itertools.islice(accounts, MAX_ACCOUNTS)), []))

    def _count_wallets(self, taken: int, total: int) -> None:
        self._metrics.planned(taken, total)
        skipped = total - taken
        if skipped != self._skipped:
            event(log, logging.WARNING, WALLETS_SKIPPED, skipped=skipped, max_wallets=self._settings.max_wallets)
        self._skipped = skipped

    def _has_address(self, wallet: SampledWallet) -> bool:
        """One impossible address would have a node reject the batch that it is in."""
        if len(wallet.address) == ADDRESS_BYTES:
            return True
        self._metrics.refused("bad_address")
        return False

    async def _read(self, batches: list[Batch], tick: datetime) -> _Reads:
        """Read every batch, a few at once: providers limit rates, and a node answers a few as fast as many."""
        reads = _Reads()
        todo = iter(batches)
        workers = min(max(1, self._settings.sample_concurrency), len(batches))
        try:
            async with asyncio.timeout(self._read_seconds), asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(todo, tick, reads))
        except TimeoutError:
            left = len(batches) - reads.ok - len(reads.errors)
            reads.errors += [f"not read within {self._read_seconds:.1f} s"] * left
        return reads

    async def _work(self, todo: Iterator[Batch], tick: datetime, reads: _Reads) -> None:
        for batch in todo:
            try:
                answer = await self._rpc.get_multiple_accounts(
                    [address for address, _ in batch], head=TOKEN_ACCOUNT_HEAD
                )
            except RpcError as exc:
                reads.errors.append(str(exc))
                continue
            reads.ok += 1
            self._take(batch, answer, tick, reads)

    def _take(self, batch: Batch, answer: AccountsAt, tick: datetime, reads: _Reads) -> None:
        for (_, targets), account in zip(batch, answer.accounts, strict=True):
            for target in targets:
                try:
                    found = read_amount(target, account)
                except MalformedAnswer as exc:
                    self._metrics.refused("malformed")
                    reads.refused[target] = str(exc)
                except OverflowError:
                    self._metrics.refused("too_large")
                    reads.refused[target] = "more than 2^63 − 1"
                else:
                    reads.samples.append(_sample(target, found, tick, answer.slot))

    async def _write(self, samples: list[BalanceSample]) -> None:
        for start in range(0, len(samples), ROWS_PER_WRITE):
            rows = samples[start : start + ROWS_PER_WRITE]
            stored = await self._writer.write(Facts(balance_samples=rows))
            new = stored.new.get("balance_samples", 0)
            self._metrics.written(new=new, known=len(rows) - new)

    def _report(self, reads: _Reads, batches: int) -> None:
        """Count and tell; raises IncompleteRun where batches failed, or nothing that was answered could be used."""
        failed = len(reads.errors)
        self._metrics.read(ok=reads.ok, failed=failed)
        event(log, logging.DEBUG, SAMPLED, samples=len(reads.samples), batches=batches, failed=failed)
        self._report_refused(reads.refused)
        if failed:
            error = reads.errors[0]
            event(log, logging.WARNING, SAMPLE_FAILED, failed=failed, batches=batches, error=error)
            raise IncompleteRun(f"{failed} of {batches} batches failed: {error}")
        if reads.refused and not reads.samples:
            raise IncompleteRun(f"no answer could be used: {next(iter(reads.refused.values()))}")

    def _report_refused(self, refused: dict[Target, str]) -> None:
        """Tell once of what cannot be sampled: a token account that was given away is so for ever."""
        fresh = [target for target in refused if target not in self._refused]
        self._refused = set(refused)
        if fresh:
            first, count = fresh[0], len(fresh)
            wallet_id, asset, reason = first.wallet.wallet_id, first.asset.symbol, refused[first]
            event(log, logging.WARNING, SAMPLE_REFUSED, count=count, wallet_id=wallet_id, asset=asset, reason=reason)


def _sample(target: Target, found: Reading, tick: datetime, slot: int) -> BalanceSample:
    return BalanceSample(
        project_id=target.wallet.project_id,
        wallet_id=target.wallet.wallet_id,
        asset_id=target.asset.id,
        ts=tick,
        agent_id=target.wallet.agent_id,
        amount=found.amount,
        slot=slot,
        commitment=COMMITMENT,
        reason=found.reason,
        origin="collector",
    )
