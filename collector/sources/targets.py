"""What to read for a sample: the account of a wallet in an asset, and what its state means as an amount."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from solders.pubkey import Pubkey
from spl.token.constants import ASSOCIATED_TOKEN_PROGRAM_ID

from collector.accounts import AccountState, token_amount
from collector.rpc_errors import MalformedAnswer
from store.facts import MAX_AMOUNT
from store.sampling import SampledAsset, SampledWallet

NO_ACCOUNT = "no_account"
"""The reason of a sample of 0 where the chain has no account."""

_CACHED_ADDRESSES = 100_000
"""Two tokens of twice as many wallets as are sampled by default; deriving one takes some 20 µs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One balance to read: `address` is the account that holds it."""

    wallet: SampledWallet
    asset: SampledAsset
    address: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """An amount in atomic units, 0 to 2^63 − 1, and why it is what it is."""

    amount: int
    reason: str | None = None


@lru_cache(maxsize=_CACHED_ADDRESSES)
def token_address(wallet: bytes, mint: bytes, program: bytes) -> bytes:
    """The associated token account: it depends on the token program (spl-associated-token-account)."""
    found, _ = Pubkey.find_program_address([wallet, program, mint], ASSOCIATED_TOKEN_PROGRAM_ID)
    return bytes(found)


def plan(wallets: Iterable[SampledWallet], assets: Sequence[SampledAsset]) -> list[Target]:
    """Every wallet in every asset, wallet by wallet."""
    return [
        Target(wallet=wallet, asset=asset, address=_address(wallet, asset)) for wallet in wallets for asset in assets
    ]


def by_account(targets: Iterable[Target]) -> dict[bytes, list[Target]]:
    """Targets by the account that holds them: a wallet that several projects watch is read once."""
    found: dict[bytes, list[Target]] = {}
    for target in targets:
        found.setdefault(target.address, []).append(target)
    return found


def read_amount(target: Target, account: AccountState | None) -> Reading:
    """What an account's state says. Raises MalformedAnswer: it cannot be; OverflowError: more than can be stored."""
    amount = None if account is None else _amount(target, account)
    if amount is None:
        return Reading(amount=0, reason=NO_ACCOUNT)
    if amount > MAX_AMOUNT:
        raise OverflowError
    return Reading(amount=amount)


def _address(wallet: SampledWallet, asset: SampledAsset) -> bytes:
    if asset.mint is None or asset.token_program is None:
        return wallet.address
    return token_address(wallet.address, asset.mint, asset.token_program)


def _amount(target: Target, account: AccountState) -> int | None:
    asset = target.asset
    if asset.mint is None:
        return account.lamports
    if asset.token_program is None:
        raise MalformedAnswer("a token without a program")
    return token_amount(account, wallet=target.wallet.address, mint=asset.mint, program=asset.token_program)
