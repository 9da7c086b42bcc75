"""RPC methods that read the chain's state, over HTTP, on a chain whose clock the tests move."""

import base64

import pytest
from sandbox_tools import memo, payment_instructions, signed
from solders.pubkey import Pubkey

from sandbox import base58
from sandbox.chain import GENESIS_HASH
from sandbox.tokens import CASH, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = str(Pubkey.new_unique())


@pytest.fixture
def scout(world):
    return world.wallets.agents["scout"]


@pytest.fixture
def seller(world):
    return world.wallets.seller.pubkey()


async def pay(world, rpc, asset, amount, text):
    """A transfer that the owner pays the fee of."""
    scout, seller = world.wallets.agents["scout"], world.wallets.seller.pubkey()
    instructions = payment_instructions(asset, scout.pubkey(), seller, amount, text)
    return await rpc.send(signed(instructions, scout, await rpc.blockhash()))


async def test_identity(rpc):
    assert await rpc.call("getHealth") == "ok"
    assert (await rpc.call("getVersion"))["solana-core"]
    assert await rpc.call("getGenesisHash") == GENESIS_HASH


async def test_slots_lag_by_commitment_and_follow_the_clock(rpc, clock, world):
    processed = await rpc.call("getSlot", {"commitment": "processed"})
    assert processed == world.chain.clock.slot()
    assert await rpc.call("getSlot", {"commitment": "confirmed"}) == processed - 1
    assert await rpc.call("getSlot") == processed - 32
    assert await rpc.call("getBlockHeight", {"commitment": "confirmed"}) == processed - 1
    clock.advance(400)
    assert await rpc.call("getSlot", {"commitment": "processed"}) == processed + 1


async def test_min_context_slot(rpc):
    now = await rpc.call("getSlot", {"commitment": "confirmed"})
    assert await rpc.call("getSlot", {"commitment": "confirmed", "minContextSlot": now}) == now
    error = await rpc.fails("getBalance", NOBODY, {"commitment": "confirmed", "minContextSlot": now + 1})
    assert (error["code"], error["data"]) == (-32016, {"contextSlot": now})


async def test_a_blockhash_lives_for_150_slots(rpc, clock):
    answer = await rpc.call("getLatestBlockhash", {"commitment": "processed"})
    value = answer["value"]
    assert value["lastValidBlockHeight"] == answer["context"]["slot"] + 150

    async def valid(commitment="processed"):
        return (await rpc.call("isBlockhashValid", value["blockhash"], {"commitment": commitment}))["value"]

    assert await valid()
    assert not await valid("finalized")  # that far back it does not exist yet
    clock.advance(150 * 400)
    assert await valid()
    assert await valid("finalized")
    clock.advance(400)
    assert not await valid()
    assert not (await rpc.call("isBlockhashValid", NOBODY))["value"]


async def test_mints_belong_to_their_programs(rpc):
    for asset, program in ((USDC, TOKEN_PROGRAM_ID), (CASH, TOKEN_2022_PROGRAM_ID)):
        account = (await rpc.call("getAccountInfo", str(asset.mint), {"encoding": "jsonParsed"}))["value"]
        assert account["owner"] == str(program)
        info = account["data"]["parsed"]["info"]
        assert (info["decimals"], info["isInitialized"], info["supply"]) == (6, True, supply_of(asset))
        supply = (await rpc.call("getTokenSupply", str(asset.mint)))["value"]
        assert supply["amount"] == supply_of(asset)


def supply_of(asset):
    """The treasury's 10^15, and 50 tokens of each agent and the visitor, but for the poor one's own asset."""
    return str(10**15 + 7 * 50_000_000 - (50_000_000 - 45_000) * (asset is USDC))


async def test_agents_start_with_50_of_each_token_and_one_sol_but_the_poor_one(rpc, world):
    for wallet in world.wallets.agents.values():
        assert (await rpc.call("getBalance", str(wallet.pubkey())))["value"] in range(999_000_000, 1_000_000_001)
    oracle = world.wallets.agents["oracle"].pubkey()
    for asset in (USDC, CASH):
        assert await rpc.tokens(asset.account_of(oracle)) == 50_000_000
    poor = world.wallets.agents["poor"].pubkey()
    assert await rpc.tokens(USDC.account_of(poor)) == 45_000
    assert await rpc.tokens(CASH.account_of(poor)) == 50_000_000


async def test_commitment_shows_the_state_of_its_slot(rpc, clock, world, scout):
    account, wallet = USDC.account_of(scout.pubkey()), str(scout.pubkey())
    clock.advance(40 * 400)
    before = await rpc.tokens(account, "finalized")
    sol = (await rpc.call("getBalance", wallet, {"commitment": "finalized"}))["value"]
    await pay(world, rpc, USDC, 7, "lag 1")

    async def seen():
        levels = ("processed", "confirmed", "finalized")
        return [before - await rpc.tokens(account, level) for level in levels]

    assert await seen() == [7, 0, 0]
    assert (await rpc.call("getBalance", wallet, {"commitment": "confirmed"}))["value"] == sol
    assert (await rpc.call("getBalance", wallet, {"commitment": "processed"}))["value"] < sol
    clock.advance(400)
    assert await seen() == [7, 7, 0]
    await pay(world, rpc, USDC, 2, "lag 2")
    assert await seen() == [9, 7, 0]
    clock.advance(31 * 400)
    assert await seen() == [9, 9, 7]
    clock.advance(400)
    assert await seen() == [9, 9, 9]


async def test_encodings_of_one_account(rpc, scout):
    address = str(CASH.account_of(scout.pubkey()))
    raw = (await rpc.call("getAccountInfo", address, {"encoding": "base64"}))["value"]
    data = base64.b64decode(raw["data"][0])
    assert raw["data"][1] == "base64"
    assert raw["space"] == len(data) == 170  # 165, the account type, and the ImmutableOwner extension
    part = {"offset": 64, "length": 8}
    cut = (await rpc.call("getAccountInfo", address, {"encoding": "base58", "dataSlice": part}))["value"]
    assert cut["data"] == [base58.encode(data[64:72]), "base58"]
    assert cut["space"] == 170
    legacy = (await rpc.call("getAccountInfo", address, {"dataSlice": part}))["value"]
    assert legacy["data"] == base58.encode(data[64:72])
    parsed = (await rpc.call("getAccountInfo", address, {"encoding": "jsonParsed"}))["value"]["data"]
    assert parsed["program"] == "spl-token-2022"
    assert parsed["parsed"]["info"]["owner"] == str(scout.pubkey())
    assert parsed["parsed"]["info"]["extensions"] == [{"extension": "immutableOwner"}]
    beyond = {"encoding": "base64", "dataSlice": {"offset": 1000, "length": 8}}
    assert (await rpc.call("getAccountInfo", address, beyond))["value"]["data"] == ["", "base64"]


async def test_base58_is_refused_above_128_bytes(rpc, scout):
    address = str(USDC.account_of(scout.pubkey()))
    for config in ({"encoding": "base58"}, {}):
        error = await rpc.fails("getAccountInfo", address, config)
        assert error["code"] == -32600
        assert "128 bytes" in error["message"]


async def test_multiple_accounts_mix_wallets_accounts_and_the_missing(rpc, scout):
    keys = [str(scout.pubkey()), str(USDC.account_of(scout.pubkey())), NOBODY]
    part = {"encoding": "base64", "dataSlice": {"offset": 64, "length": 8}, "commitment": "processed"}
    wallet, tokens, missing = (await rpc.call("getMultipleAccounts", keys, part))["value"]
    assert wallet["data"] == ["", "base64"]
    assert wallet["lamports"] > 0
    assert int.from_bytes(base64.b64decode(tokens["data"][0]), "little") == await rpc.tokens(keys[1])
    assert missing is None
    assert len((await rpc.call("getMultipleAccounts", [NOBODY] * 100))["value"]) == 100
    assert await rpc.code("getMultipleAccounts", [NOBODY] * 101) == -32602


async def test_token_accounts_by_owner(rpc, scout):
    owner = str(scout.pubkey())

    async def found(wanted):
        answer = await rpc.call("getTokenAccountsByOwner", owner, wanted, {"encoding": "jsonParsed"})
        return [one["pubkey"] for one in answer["value"]]

    assert await found({"mint": str(USDC.mint)}) == [str(USDC.account_of(scout.pubkey()))]
    assert await found({"programId": str(TOKEN_2022_PROGRAM_ID)}) == [str(CASH.account_of(scout.pubkey()))]
    for wrong in ({}, {"mint": NOBODY}, {"programId": NOBODY}, {"mint": "x"}, "x"):
        assert await rpc.code("getTokenAccountsByOwner", owner, wrong) == -32602


async def test_missing_things(rpc, scout):
    assert (await rpc.call("getBalance", NOBODY))["value"] == 0
    assert (await rpc.call("getAccountInfo", NOBODY))["value"] is None
    for method in ("getTokenAccountBalance", "getTokenSupply"):
        assert "could not find account" in (await rpc.fails(method, NOBODY))["message"]
        assert await rpc.code(method, str(scout.pubkey())) == -32602


async def test_rent(rpc):
    assert await rpc.call("getMinimumBalanceForRentExemption", 165) == 2_039_280
    assert await rpc.code("getMinimumBalanceForRentExemption", 2**63) == -32602


async def test_airdrops_add_up_and_two_alike_are_two(rpc):
    to = str(Pubkey.new_unique())
    first = await rpc.call("requestAirdrop", to, 5_000_000)
    second = await rpc.call("requestAirdrop", to, 5_000_000)
    assert first != second
    assert (await rpc.call("getBalance", to, {"commitment": "processed"}))["value"] == 10_000_000
    assert await rpc.code("requestAirdrop", to, 10**18) == -32603
    assert await rpc.code("requestAirdrop", NOBODY, 1) == -32603  # below rent exemption


BAD_PARAMS = [
    ("getBalance",),
    ("getBalance", 5),
    ("getBalance", "not-base58-0OIl"),
    ("getBalance", "abc"),
    ("getBalance", NOBODY, "confirmed"),
    ("getBalance", NOBODY, {"commitment": "certain"}),
    ("getBalance", NOBODY, {"commitment": 5}),
    ("getBalance", NOBODY, {"minContextSlot": -1}),
    ("getBalance", NOBODY, {"minContextSlot": True}),
    ("getAccountInfo", NOBODY, {"encoding": "base64+zstd"}),
    ("getAccountInfo", NOBODY, {"dataSlice": {"offset": 1}}),
    ("getAccountInfo", NOBODY, {"dataSlice": {"offset": -1, "length": 2}}),
    ("getMultipleAccounts", NOBODY),
    ("getMultipleAccounts", [5]),
    ("getMultipleAccounts",),
    ("getTokenAccountsByOwner", NOBODY),
    ("isBlockhashValid", "0"),
    ("isBlockhashValid", 5),
    ("getMinimumBalanceForRentExemption", "many"),
    ("getMinimumBalanceForRentExemption", 1.5),
    ("requestAirdrop", NOBODY),
    ("requestAirdrop", NOBODY, -5),
    ("requestAirdrop", NOBODY, 2**64),
]


@pytest.mark.parametrize("call", BAD_PARAMS, ids=repr)
async def test_bad_parameters_are_minus_32602(rpc, call):
    assert await rpc.code(*call) == -32602


async def test_a_memo_alone_changes_no_token(rpc, world, scout):
    before = await rpc.tokens(USDC.account_of(scout.pubkey()))
    await rpc.send(signed([memo("nothing but words")], scout, await rpc.blockhash()))
    assert await rpc.tokens(USDC.account_of(scout.pubkey())) == before
