from __future__ import annotations

import pytest
from solders.pubkey import Pubkey
from spl.token.instructions import get_associated_token_address

from collector.accounts import SYSTEM_PROGRAM, TOKEN_PROGRAMS, AccountState
from collector.rpc_errors import MalformedAnswer
from collector.sources.targets import NO_ACCOUNT, Reading, Target, by_account, plan, read_amount, token_address
from store.sampling import SampledAsset, SampledWallet
from tests.collector.chain import CASH, PROGRAMS, USDC

WALLET = bytes([1]) * 32
SOL = SampledAsset(id=1, symbol="SOL", mint=None, decimals=9, token_program=None)
TOKENS = [
    SampledAsset(id=number, symbol="X", mint=bytes(mint), decimals=6, token_program=bytes(program))
    for number, (mint, program) in enumerate(PROGRAMS.items(), 2)
]


def wallet(number, address=WALLET):
    return SampledWallet(wallet_id=number, project_id=number, agent_id=number, address=address)


def target(asset):
    return plan([wallet(1)], [asset])[0]


@pytest.mark.parametrize("mint", [USDC, CASH])
def test_the_token_account_depends_on_the_program(mint, chain):
    owner = chain.scout.pubkey()
    found = [Pubkey(token_address(bytes(owner), bytes(mint), program)) for program in TOKEN_PROGRAMS]
    assert chain.account(owner, mint) in found
    assert found.index(chain.account(owner, mint)) == list(PROGRAMS).index(mint)
    assert found[list(PROGRAMS).index(mint)] == get_associated_token_address(owner, mint, PROGRAMS[mint])


def test_every_wallet_in_every_asset():
    planned = plan([wallet(1), wallet(2, bytes([2]) * 32)], [SOL, *TOKENS])
    assert [(item.wallet.wallet_id, item.asset.id) for item in planned] == [(w, a) for w in (1, 2) for a in (1, 2, 3)]
    assert len({item.address for item in planned}) == 6
    assert planned[0].address == WALLET


def test_a_wallet_of_two_projects_is_read_once():
    accounts = by_account(plan([wallet(1), wallet(2)], [SOL, TOKENS[0]]))
    assert [len(targets) for targets in accounts.values()] == [2, 2]


def test_no_account_is_zero_and_says_so():
    for asset in (SOL, *TOKENS):
        assert read_amount(target(asset), None) == Reading(amount=0, reason=NO_ACCOUNT)
    lamports = AccountState(lamports=5, owner=SYSTEM_PROGRAM, data=b"")
    assert read_amount(target(TOKENS[0]), lamports) == Reading(amount=0, reason=NO_ACCOUNT)


def test_amounts():
    assert (
        read_amount(target(SOL), AccountState(lamports=2**63 - 1, owner=SYSTEM_PROGRAM, data=b"")).amount == 2**63 - 1
    )
    held = target(TOKENS[1])
    data = held.asset.mint + WALLET + (5).to_bytes(8, "little")
    assert read_amount(held, AccountState(lamports=1, owner=held.asset.token_program, data=data)) == Reading(amount=5)


def test_more_than_can_be_stored():
    with pytest.raises(OverflowError):
        read_amount(target(SOL), AccountState(lamports=2**63, owner=SYSTEM_PROGRAM, data=b""))


def test_a_token_account_of_something_else():
    with pytest.raises(MalformedAnswer):
        read_amount(target(TOKENS[0]), AccountState(lamports=1, owner=TOKEN_PROGRAMS[1], data=bytes(72)))
    unknown = SampledAsset(id=9, symbol="X", mint=WALLET, decimals=6, token_program=None)
    with pytest.raises(MalformedAnswer):
        read_amount(
            Target(wallet=wallet(1), asset=unknown, address=WALLET),
            AccountState(lamports=1, owner=TOKEN_PROGRAMS[1], data=bytes(72)),
        )
