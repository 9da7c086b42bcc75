"""The first state of the chain: two mints, and the wallets of this world with their money."""

import hashlib
from dataclasses import dataclass

from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from sandbox.chain import Chain
from sandbox.places import KNOWLEDGE, MARKET_DATA
from sandbox.profiles import PROFILES, PURSE_ATOMIC
from sandbox.tokens import ASSETS, SYSTEM_PROGRAM_ID, Asset, pack_mint, pack_token_account

SOL = 1_000_000_000
TREASURY_ATOMIC = 10**15
"""Of either token. At the stories' pace a top-up of all agents is a few tokens an hour; this lasts for ever."""

TREASURY_LAMPORTS = 1000 * SOL
FACILITATOR_LAMPORTS = 10_000 * SOL
"""The facilitator pays about 10,000 lamports for each purchase; this lasts for a billion."""


def keypair(seed: int, role: str) -> Keypair:
    """The key of a role, the same for the same seed."""
    return Keypair.from_seed(hashlib.sha256(f"tollwatch sandbox/{seed}/{role}".encode()).digest())


@dataclass(frozen=True, kw_only=True)
class Wallets:
    """Who exists at the start. Sellers are found by the name of their service; `visitor` is nobody's of the stories:
    a purse for a person's own agent."""

    facilitator: Keypair
    treasury: Keypair
    sellers: dict[str, Keypair]
    agents: dict[str, Keypair]
    visitor: Keypair

    @classmethod
    def of(cls, seed: int) -> "Wallets":
        """The wallets of a seed."""
        return cls(
            facilitator=keypair(seed, "facilitator"),
            treasury=keypair(seed, "treasury"),
            sellers={MARKET_DATA: keypair(seed, "seller"), KNOWLEDGE: keypair(seed, "seller/knowledge")},
            agents={profile.name: keypair(seed, f"agent/{profile.name}") for profile in PROFILES},
            visitor=keypair(seed, "visitor"),
        )

    @property
    def seller(self) -> Keypair:
        """The market's."""
        return self.sellers[MARKET_DATA]


def write_genesis(chain: Chain, wallets: Wallets, seed: int) -> None:
    """Give each agent its purse and a SOL, sellers empty token accounts, facilitator and treasury what they need."""
    authority = keypair(seed, "mint authority").pubkey()
    for asset in ASSETS.values():
        holdings = _holdings(asset, wallets)
        _put(chain, asset.mint, pack_mint(authority, sum(holdings.values()), asset.decimals), asset.program)
        for owner, amount in holdings.items():
            _put(chain, asset.account_of(owner), pack_token_account(asset, owner, amount), asset.program)
    for holder in (*wallets.sellers.values(), *wallets.agents.values(), wallets.visitor):
        _endow(chain, holder, SOL)
    _endow(chain, wallets.facilitator, FACILITATOR_LAMPORTS)
    _endow(chain, wallets.treasury, TREASURY_LAMPORTS)


def _holdings(asset: Asset, wallets: Wallets) -> dict[Pubkey, int]:
    """Who holds how much of an asset. An agent's purse is of its own asset; of the other it has plenty."""
    sellers = {seller.pubkey(): 0 for seller in wallets.sellers.values()}
    agents = {
        wallets.agents[profile.name].pubkey(): profile.purse if profile.asset is asset else PURSE_ATOMIC
        for profile in PROFILES
    }
    return {wallets.treasury.pubkey(): TREASURY_ATOMIC, wallets.visitor.pubkey(): PURSE_ATOMIC, **sellers, **agents}


def _endow(chain: Chain, holder: Keypair, lamports: int) -> None:
    chain.set_account(holder.pubkey(), Account(lamports, b"", SYSTEM_PROGRAM_ID))


def _put(chain: Chain, address: Pubkey, data: bytes, program: Pubkey) -> None:
    chain.set_account(address, Account(chain.rent_exemption(len(data)), data, program))
