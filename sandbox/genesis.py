"""The first state of the chain: two mints, and the wallets of this world with their money."""

import hashlib
from dataclasses import dataclass

from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from sandbox.chain import Chain
from sandbox.tokens import ASSETS, SYSTEM_PROGRAM_ID, Asset, pack_mint, pack_token_account

SOL = 1_000_000_000
AGENT_TOKENS_ATOMIC = 50_000_000
FACILITATOR_LAMPORTS = 10_000 * SOL
"""The facilitator pays about 10,000 lamports for each purchase; this lasts for a billion."""


def keypair(seed: int, role: str) -> Keypair:
    """The key of a role, the same for the same seed."""
    return Keypair.from_seed(hashlib.sha256(f"tollwatch sandbox/{seed}/{role}".encode()).digest())


@dataclass(frozen=True, kw_only=True)
class Wallets:
    """Who exists at the start."""

    facilitator: Keypair
    seller: Keypair
    agents: dict[str, Keypair]

    @classmethod
    def of(cls, seed: int, agents: list[str]) -> "Wallets":
        """The wallets of a seed."""
        return cls(
            facilitator=keypair(seed, "facilitator"),
            seller=keypair(seed, "seller"),
            agents={name: keypair(seed, f"agent/{name}") for name in agents},
        )


def write_genesis(chain: Chain, wallets: Wallets, seed: int) -> None:
    """Give each agent 50 of either token and one SOL, the seller empty token accounts, the facilitator its fees."""
    authority = keypair(seed, "mint authority").pubkey()
    supply = AGENT_TOKENS_ATOMIC * len(wallets.agents)
    for asset in ASSETS.values():
        _put(chain, asset.mint, pack_mint(authority, supply, asset.decimals), asset.program)
        _hold(chain, asset, wallets.seller.pubkey(), 0)
        for agent in wallets.agents.values():
            _hold(chain, asset, agent.pubkey(), AGENT_TOKENS_ATOMIC)
    for owner in (wallets.seller, *wallets.agents.values()):
        chain.set_account(owner.pubkey(), Account(SOL, b"", SYSTEM_PROGRAM_ID))
    chain.set_account(wallets.facilitator.pubkey(), Account(FACILITATOR_LAMPORTS, b"", SYSTEM_PROGRAM_ID))


def _hold(chain: Chain, asset: Asset, owner: Pubkey, amount: int) -> None:
    _put(chain, asset.account_of(owner), pack_token_account(asset, owner, amount), asset.program)


def _put(chain: Chain, address: Pubkey, data: bytes, program: Pubkey) -> None:
    chain.set_account(address, Account(chain.rent_exemption(len(data)), data, program))
