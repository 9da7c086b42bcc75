"""The chain through solana-py's AsyncClient, whose typed parsers refuse anything that is not a node's form."""

import pytest
import pytest_asyncio
from sandbox_tools import half_signed, payment_instructions, signed
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Commitment, Confirmed, Finalized, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import DataSliceOpts, TokenAccountOpts, TxOpts
from solders.pubkey import Pubkey
from solders.rpc.responses import GetTransactionResp
from solders.signature import Signature

from sandbox.chain import GENESIS_HASH
from sandbox.tokens import CASH, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(world):
    async with AsyncClient(world.places.chain, commitment=Commitment("confirmed")) as opened:
        yield opened


@pytest.fixture
def scout(world):
    return world.wallets.agents["scout"]


async def payment(client, world, scout, amount, text="typed"):
    blockhash = (await client.get_latest_blockhash(Processed)).value.blockhash
    seller = world.wallets.seller.pubkey()
    return signed(payment_instructions(USDC, scout.pubkey(), seller, amount, text), scout, blockhash)


async def test_plain_reads(client, scout):
    assert await client.is_connected()
    assert (await client.get_version()).value.solana_core
    assert str((await client.get_genesis_hash()).value) == GENESIS_HASH
    slot = (await client.get_slot()).value
    assert (await client.get_block_height()).value == slot
    assert (await client.get_balance(scout.pubkey())).value > 0
    assert (await client.get_minimum_balance_for_rent_exemption(165)).value == 2_039_280
    assert (await client.get_latest_blockhash(Finalized)).value.last_valid_block_height == slot - 31 + 150


async def test_accounts(client, scout):
    address = CASH.account_of(scout.pubkey())
    account = (await client.get_account_info(address)).value
    assert account.owner == CASH.program
    cut = await client.get_account_info(address, data_slice=DataSliceOpts(offset=64, length=8))
    assert int.from_bytes(cut.value.data, "little") == 50_000_000
    parsed = (await client.get_account_info_json_parsed(address)).value
    assert parsed.data.parsed["info"]["tokenAmount"]["amount"] == "50000000"
    several = (await client.get_multiple_accounts([address, scout.pubkey(), Pubkey.new_unique()])).value
    assert several[0] == account
    assert several[2] is None
    assert (await client.get_multiple_accounts_json_parsed([address])).value[0].data.parsed


async def test_tokens(client, scout):
    address = CASH.account_of(scout.pubkey())
    assert (await client.get_token_account_balance(address)).value.amount == "50000000"
    assert (await client.get_token_supply(CASH.mint)).value.decimals == 6
    by_mint = await client.get_token_accounts_by_owner(scout.pubkey(), TokenAccountOpts(mint=CASH.mint))
    assert [one.pubkey for one in by_mint.value] == [address]
    by_program = TokenAccountOpts(program_id=CASH.program)
    parsed = await client.get_token_accounts_by_owner_json_parsed(scout.pubkey(), by_program)
    assert parsed.value[0].account.data.parsed["info"]["mint"] == str(CASH.mint)


async def test_a_transaction_from_sending_to_history(client, clock, world, scout):
    transaction = await payment(client, world, scout, 321)
    assert (await client.simulate_transaction(transaction, sig_verify=True)).value.err is None
    signature = (await client.send_transaction(transaction)).value
    clock.advance(400)
    status = (await client.get_signature_statuses([signature, Signature.default()])).value
    assert (status[0].err, status[1]) == (None, None)
    assert (await client.confirm_transaction(signature, Confirmed, sleep_seconds=0.01)).value[0].err is None
    listed = (await client.get_signatures_for_address(USDC.account_of(scout.pubkey()), limit=5)).value
    assert listed[0].signature == signature
    assert listed[0].memo == "[5] typed"
    for encoding in ("json", "jsonParsed", "base64"):
        found = await client.get_transaction(signature, encoding, max_supported_transaction_version=0)
        meta = found.value.transaction.meta
        assert meta.fee == 5001
        before = {held.owner: int(held.ui_token_amount.amount) for held in meta.pre_token_balances}
        after = {held.owner: int(held.ui_token_amount.amount) for held in meta.post_token_balances}
        assert after[scout.pubkey()] == before[scout.pubkey()] - 321
        assert isinstance(GetTransactionResp.from_json(found.to_json()), GetTransactionResp)
    assert (await client.get_transaction(Signature.default(), max_supported_transaction_version=0)).value is None


async def test_airdrop(client, clock):
    to = Pubkey.new_unique()
    signature = (await client.request_airdrop(to, 5_000_000)).value
    clock.advance(400)
    assert (await client.get_balance(to)).value == 5_000_000
    assert (await client.get_transaction(signature, "jsonParsed")).value.slot > 0


async def test_failures_are_typed(client, clock, world, scout):
    with pytest.raises(RPCException, match="0x1"):
        await client.send_transaction(await payment(client, world, scout, 10**12))
    half = half_signed(
        payment_instructions(USDC, scout.pubkey(), world.wallets.seller.pubkey(), 1),
        world.wallets.facilitator.pubkey(),
        scout,
        (await client.get_latest_blockhash(Processed)).value.blockhash,
    )
    with pytest.raises(RPCException, match="SignatureVerificationFailure"):
        await client.send_transaction(half)
    failing = await payment(client, world, scout, 10**12, "let it fail")
    signature = (await client.send_transaction(failing, opts=TxOpts(skip_preflight=True))).value
    clock.advance(400)
    found = await client.get_transaction(signature, "jsonParsed", max_supported_transaction_version=0)
    assert found.value.transaction.meta.err is not None
    with pytest.raises(RPCException, match="not supported by the requesting client"):
        await client.get_transaction(signature, "json")
    with pytest.raises(RPCException, match="could not find account"):
        await client.get_token_account_balance(Pubkey.new_unique())
