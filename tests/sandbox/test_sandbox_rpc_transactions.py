"""RPC methods about transactions, over HTTP, on a chain whose clock the tests move."""

import base64

import pytest
from sandbox_tools import b64, half_signed, memo, payment_instructions, signed, transfer_of
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token.instructions import create_idempotent_associated_token_account

from sandbox import base58
from sandbox.tokens import CASH, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIRMED = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
UNKNOWN = str(Signature.default())


@pytest.fixture
def scout(world):
    return world.wallets.agents["scout"]


@pytest.fixture
def seller(world):
    return world.wallets.seller.pubkey()


async def payment(rpc, scout, seller, amount=1000, text="a", asset=USDC):
    instructions = payment_instructions(asset, scout.pubkey(), seller, amount, text)
    return signed(instructions, scout, await rpc.blockhash())


@pytest.mark.parametrize("asset", [USDC, CASH], ids=lambda asset: asset.symbol)
async def test_get_transaction_shows_what_moved(rpc, clock, scout, seller, asset):
    transaction = await payment(rpc, scout, seller, 1234, f"invoice {asset.symbol}", asset)
    signature = await rpc.send(transaction)
    assert signature == str(transaction.signatures[0])
    assert await rpc.call("getTransaction", signature, CONFIRMED) is None  # processed is not enough
    clock.advance(400)
    found = await rpc.call("getTransaction", signature, CONFIRMED)
    meta, keys = found["meta"], found["transaction"]["message"]["accountKeys"]
    assert (meta["err"], meta["status"], found["version"]) == (None, {"Ok": None}, 0)
    assert meta["fee"] == meta["preBalances"][0] - meta["postBalances"][0] == 5001
    assert len(meta["preBalances"]) == len(keys)
    moved = {}
    for sign, side in ((-1, "preTokenBalances"), (1, "postTokenBalances")):
        for held in meta[side]:
            assert held["mint"] == str(asset.mint)
            assert held["programId"] == str(asset.program)
            moved[held["owner"]] = moved.get(held["owner"], 0) + sign * int(held["uiTokenAmount"]["amount"])
            assert keys[held["accountIndex"]] == str(asset.account_of(Pubkey.from_string(held["owner"])))
    assert moved == {str(scout.pubkey()): -1234, str(seller): 1234}
    assert any("Memo" in line for line in meta["logMessages"])


async def test_get_transaction_parsed(rpc, clock, scout, seller):
    signature = await rpc.send(await payment(rpc, scout, seller, 5, "parsed"))
    clock.advance(400)
    found = await rpc.call("getTransaction", signature, CONFIRMED | {"encoding": "jsonParsed"})
    message = found["transaction"]["message"]
    transfer_instruction, memo_instruction = message["instructions"][2:]
    info = transfer_instruction["parsed"]["info"]
    assert transfer_instruction["parsed"]["type"] == "transferChecked"
    assert (info["authority"], info["mint"]) == (str(scout.pubkey()), str(USDC.mint))
    assert info["tokenAmount"]["amount"] == "5"
    assert (memo_instruction["program"], memo_instruction["parsed"]) == ("spl-memo", "parsed")
    roles = {key["pubkey"]: (key["signer"], key["writable"]) for key in message["accountKeys"]}
    assert roles[str(scout.pubkey())] == (True, True)
    assert roles[str(USDC.account_of(seller))] == (False, True)
    assert roles[str(USDC.mint)] == (False, False)


async def test_get_transaction_binary_is_what_was_sent(rpc, clock, scout, seller):
    transaction = await payment(rpc, scout, seller, 5, "binary")
    signature = await rpc.send(transaction)
    clock.advance(400)
    found = await rpc.call("getTransaction", signature, CONFIRMED | {"encoding": "base64"})
    assert found["transaction"] == [b64(transaction), "base64"]
    shorthand = await rpc.call("getTransaction", signature, CONFIRMED | {"encoding": "base58"})
    assert base58.decode(shorthand["transaction"][0]) == bytes(transaction)


async def test_a_versioned_transaction_needs_the_clients_consent(rpc, clock, scout, seller):
    signature = await rpc.send(await payment(rpc, scout, seller, 5, "consent"))
    clock.advance(400)
    error = await rpc.fails("getTransaction", signature, {"commitment": "confirmed"})
    assert error["code"] == -32015
    assert await rpc.code("getTransaction", signature, {"commitment": "processed"}) == -32602


async def test_legacy_transactions(rpc, clock, scout, seller):
    lamports = transfer(TransferParams(from_pubkey=scout.pubkey(), to_pubkey=seller, lamports=77))
    message = Message.new_with_blockhash([lamports], scout.pubkey(), await rpc.blockhash())
    signature = await rpc.send(VersionedTransaction(message, [scout]))
    clock.advance(33 * 400)
    plain = await rpc.call("getTransaction", signature, "jsonParsed")
    assert "version" not in plain
    assert plain["transaction"]["message"]["instructions"][0]["parsed"]["info"]["lamports"] == 77
    assert (await rpc.call("getTransaction", signature, CONFIRMED))["version"] == "legacy"


async def test_creating_an_account_shows_inner_instructions(rpc, clock, scout):
    owner = Pubkey.new_unique()
    make = create_idempotent_associated_token_account(scout.pubkey(), owner, CASH.mint, CASH.program)
    transaction = signed([make, transfer_of(CASH, scout.pubkey(), owner, 9)], scout, await rpc.blockhash())
    signature = await rpc.send(transaction)
    clock.advance(400)
    assert await rpc.tokens(CASH.account_of(owner), "confirmed") == 9
    wanted = {"programId": str(TOKEN_2022_PROGRAM_ID)}
    listed = await rpc.call("getTokenAccountsByOwner", str(owner), wanted, {"encoding": "base64"})
    assert listed["value"] == []  # finalized has not seen it
    listed = await rpc.call("getTokenAccountsByOwner", str(owner), wanted, {"encoding": "base64"} | CONFIRMED)
    assert [one["pubkey"] for one in listed["value"]] == [str(CASH.account_of(owner))]
    for encoding in ("json", "jsonParsed"):
        meta = (await rpc.call("getTransaction", signature, CONFIRMED | {"encoding": encoding}))["meta"]
        assert [group["index"] for group in meta["innerInstructions"]] == [0]
        assert len(meta["innerInstructions"][0]["instructions"]) >= 3
        assert [held["owner"] for held in meta["preTokenBalances"]] == [str(scout.pubkey())]
        assert str(owner) in {held["owner"] for held in meta["postTokenBalances"]}


async def test_statuses_ripen(rpc, clock, scout, seller):
    signature = await rpc.send(await payment(rpc, scout, seller, 5, "ripen"))

    async def status():
        answer = await rpc.call("getSignatureStatuses", [signature, UNKNOWN], {"searchTransactionHistory": True})
        found, unknown = answer["value"]
        assert unknown is None
        return found["confirmationStatus"], found["confirmations"]

    assert await status() == ("processed", 0)
    clock.advance(400)
    assert await status() == ("confirmed", 1)
    clock.advance(31 * 400)
    assert await status() == ("finalized", None)


async def test_signatures_page_newest_first(rpc, clock, scout, seller):
    sent = [await rpc.send(await payment(rpc, scout, seller, 1, f"page {number}")) for number in range(7)]
    address, newest_first = str(USDC.account_of(seller)), sent[::-1]

    async def page(**config):
        listed = await rpc.call("getSignaturesForAddress", address, {"commitment": "confirmed"} | config)
        return [one["signature"] for one in listed]

    assert newest_first[0] not in await page()
    clock.advance(400)
    assert await page(limit=7) == newest_first
    assert await page(limit=3) == newest_first[:3]
    assert await page(limit=3, before=newest_first[2]) == newest_first[3:6]
    assert await page(before=newest_first[0], until=newest_first[4]) == newest_first[1:4]
    assert await page(until=newest_first[0]) == []
    assert await page(before=UNKNOWN) == []
    summary = (await rpc.call("getSignaturesForAddress", address, {"commitment": "confirmed", "limit": 1}))[0]
    assert (summary["memo"], summary["err"], summary["confirmationStatus"]) == ("[6] page 6", None, "confirmed")
    assert summary["blockTime"] == clock() // 1000 or summary["blockTime"] == (clock() - 400) // 1000


async def test_a_blockhash_expires_for_transactions(rpc, clock, scout, seller):
    transaction = await payment(rpc, scout, seller, 1, "expires")
    clock.advance(151 * 400)
    error = await rpc.fails("sendTransaction", b64(transaction), {"encoding": "base64"})
    assert error["code"] == -32002
    assert "Blockhash not found" in error["message"]
    assert error["data"]["err"] == "BlockhashNotFound"
    quiet = await rpc.send(transaction, skipPreflight=True)  # accepted, and dropped in silence
    assert (await rpc.call("getSignatureStatuses", [quiet]))["value"] == [None]


async def test_a_transaction_is_processed_once(rpc, scout, seller):
    transaction = await payment(rpc, scout, seller, 1, "once")
    before = await rpc.tokens(USDC.account_of(seller))
    await rpc.send(transaction)
    error = await rpc.fails("sendTransaction", b64(transaction), {"encoding": "base64"})
    assert "already been processed" in error["message"]
    await rpc.send(transaction, skipPreflight=True)
    assert await rpc.tokens(USDC.account_of(seller)) == before + 1


async def test_bad_signatures_are_refused(rpc, world, scout, seller):
    instructions = payment_instructions(USDC, scout.pubkey(), seller, 1, "half")
    half = half_signed(instructions, world.wallets.facilitator.pubkey(), scout, await rpc.blockhash())
    assert await rpc.code("sendTransaction", b64(half), {"encoding": "base64"}) == -32003
    await rpc.send(half, skipPreflight=True)
    assert await rpc.code("simulateTransaction", b64(half), {"encoding": "base64", "sigVerify": True}) == -32003
    loose = await rpc.call("simulateTransaction", b64(half), {"encoding": "base64"})
    assert loose["value"]["err"] is None


async def test_a_failing_transaction_is_stopped_by_the_preflight_or_recorded(rpc, clock, scout, seller):
    transaction = await payment(rpc, scout, seller, 10**12, "too much")
    error = await rpc.fails("sendTransaction", b64(transaction), {"encoding": "base64"})
    assert (error["code"], error["data"]["err"]) == (-32002, {"InstructionError": [2, {"Custom": 1}]})
    assert "custom program error: 0x1" in error["message"]
    sol = (await rpc.call("getBalance", str(scout.pubkey()), {"commitment": "processed"}))["value"]
    signature = await rpc.send(transaction, skipPreflight=True)
    clock.advance(400)
    found = await rpc.call("getTransaction", signature, CONFIRMED)
    assert found["meta"]["err"] == {"InstructionError": [2, {"Custom": 1}]}
    assert found["meta"]["preTokenBalances"] == found["meta"]["postTokenBalances"]
    assert (await rpc.call("getBalance", str(scout.pubkey()), CONFIRMED))["value"] == sol - 5001
    status = (await rpc.call("getSignatureStatuses", [signature]))["value"][0]
    assert (status["confirmationStatus"], status["err"]) == ("confirmed", found["meta"]["err"])


async def test_a_payer_without_money_leaves_no_trace(rpc):
    pauper = Keypair()
    signature = await rpc.send(signed([memo("poor")], pauper, await rpc.blockhash()), skipPreflight=True)
    assert (await rpc.call("getSignatureStatuses", [signature]))["value"] == [None]
    assert (await rpc.call("getSignaturesForAddress", str(pauper.pubkey()))) == []


async def test_simulation_shows_accounts_and_changes_none(rpc, scout, seller):
    account = str(USDC.account_of(seller))
    before = await rpc.tokens(account)
    transaction = await payment(rpc, scout, seller, 11, "what if")
    config = {"encoding": "base64", "sigVerify": True, "accounts": {"encoding": "base64", "addresses": [account]}}
    value = (await rpc.call("simulateTransaction", b64(transaction), config))["value"]
    data = base64.b64decode(value["accounts"][0]["data"][0])
    assert int.from_bytes(data[64:72], "little") == before + 11
    assert value["unitsConsumed"] > 0
    assert await rpc.tokens(account) == before


async def test_simulation_may_replace_the_blockhash(rpc, scout, seller):
    instructions = payment_instructions(USDC, scout.pubkey(), seller, 1, "stale")
    stale = b64(signed(instructions, scout, Hash.default()))
    refused = await rpc.call("simulateTransaction", stale, {"encoding": "base64"})
    assert refused["value"]["err"] == "BlockhashNotFound"
    fresh = await rpc.call("simulateTransaction", stale, {"encoding": "base64", "replaceRecentBlockhash": True})
    assert fresh["value"]["err"] is None
    assert fresh["value"]["replacementBlockhash"]["blockhash"]
    both = {"encoding": "base64", "replaceRecentBlockhash": True, "sigVerify": True}
    assert await rpc.code("simulateTransaction", stale, both) == -32602


async def test_base58_is_the_default_for_sending(rpc, scout, seller):
    transaction = await payment(rpc, scout, seller, 1, "base58")
    assert await rpc.call("sendTransaction", base58.encode(bytes(transaction))) == str(transaction.signatures[0])


BAD_TRANSACTIONS = [
    ("sendTransaction",),
    ("sendTransaction", 5),
    ("sendTransaction", ""),
    ("sendTransaction", "0OIl"),
    ("sendTransaction", "1" * 1684),
    ("sendTransaction", "!!!!", {"encoding": "base64"}),
    ("sendTransaction", base64.b64encode(bytes(64)).decode(), {"encoding": "base64"}),
    ("sendTransaction", base64.b64encode(b"\x01" * 1233).decode(), {"encoding": "base64"}),
    ("sendTransaction", "AAAA", {"encoding": "jsonParsed"}),
    ("sendTransaction", "AAAA", {"encoding": "base64", "preflightCommitment": "soon"}),
    ("simulateTransaction", "AAAA", {"encoding": "base64", "sigVerify": 1}),
    ("getSignatureStatuses",),
    ("getSignatureStatuses", [UNKNOWN] * 257),
    ("getSignatureStatuses", ["abc"]),
    ("getSignaturesForAddress", UNKNOWN),
    ("getSignaturesForAddress", str(TOKEN_PROGRAM_ID), {"limit": 0}),
    ("getSignaturesForAddress", str(TOKEN_PROGRAM_ID), {"limit": 1001}),
    ("getSignaturesForAddress", str(TOKEN_PROGRAM_ID), {"before": "abc"}),
    ("getSignaturesForAddress", str(TOKEN_PROGRAM_ID), {"commitment": "processed"}),
    ("getTransaction", "abc"),
    ("getTransaction", UNKNOWN, {"encoding": "xml"}),
    ("getTransaction", UNKNOWN, {"maxSupportedTransactionVersion": "zero"}),
]


@pytest.mark.parametrize("call", BAD_TRANSACTIONS, ids=lambda call: repr(call)[:60])
async def test_bad_parameters_are_minus_32602(rpc, call):
    assert await rpc.code(*call) == -32602


async def test_an_instruction_that_points_nowhere_is_refused_before_the_machine_sees_it(rpc, scout, seller):
    wire = bytearray(bytes(await payment(rpc, scout, seller, 1, "nowhere")))
    # The message of a version 0 transaction ends with its instructions and an empty list of lookup tables: give the
    # memo, the last one, a program index that no key has.
    wire[-1 - len(b"nowhere") - 1 - 1 - 1] = 200
    encoded = base64.b64encode(bytes(wire)).decode()
    error = await rpc.fails("sendTransaction", encoded, {"encoding": "base64", "skipPreflight": True})
    assert (error["code"], "sanitize" in error["message"]) == (-32602, True)


async def test_unknown_transactions(rpc):
    assert await rpc.call("getTransaction", UNKNOWN, CONFIRMED) is None
    assert await rpc.call("getSignaturesForAddress", str(Pubkey.new_unique())) == []
