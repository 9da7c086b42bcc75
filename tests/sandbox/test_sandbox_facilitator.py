"""The facilitator refuses what is not exactly the payment asked for, and settles once."""

import asyncio
import copy

import httpx
import pytest
import pytest_asyncio
from sandbox_tools import (
    facilitator_request,
    half_signed,
    memo,
    open_world,
    payment_instructions,
    rpc_of,
    terms_of,
    transfer_of,
)
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from x402.schemas import SettleRequest

from sandbox.chain import NETWORK
from sandbox.chain_client import ChainClient
from sandbox.clock import ManualClock
from sandbox.facilitator import Facilitator
from sandbox.tokens import CASH, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFIX = "invalid_exact_svm_payload"
BUDGET = [set_compute_unit_limit(60_000), set_compute_unit_price(1)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    """Fast slots, because settling waits for them."""
    async with open_world(slot_ms=20) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rpc(world):
    async with rpc_of(world) as client:
        yield client


class Case:
    """A payer's hand on the facilitator: build a payment, spoil it, ask."""

    def __init__(self, world, rpc, http):
        self.world = world
        self.rpc = rpc
        self.http = http
        self.scout = world.wallets.agents["scout"]
        self.seller = world.wallets.seller.pubkey()
        self.fee_payer = world.wallets.facilitator.pubkey()

    async def payment(self, *, asset=USDC, amount=1000, text="order 1", to=None, instructions=None, owner=None):
        owner = owner or self.scout
        steps = instructions or payment_instructions(asset, owner.pubkey(), to or self.seller, amount, text)
        return half_signed(steps, self.fee_payer, owner, await self.rpc.blockhash("confirmed"))

    async def ask(self, path, transaction, terms):
        response = await self.http.post(
            f"{self.world.places.facilitator}/{path}", json=facilitator_request(transaction, terms)
        )
        assert response.status_code == 200
        return response.json()

    async def refused(self, transaction, terms, path="verify"):
        answer = await self.ask(path, transaction, terms)
        assert not answer.get("isValid", answer.get("success"))
        return answer.get("invalidReason", answer.get("errorReason"))

    def terms(self, asset=USDC, **more):
        return terms_of(self.world, asset, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def case(world, rpc):
    yield Case(world, rpc, rpc.http)


async def test_supported(case):
    answer = (await case.http.get(f"{case.world.places.facilitator}/supported")).json()
    kind = answer["kinds"][0]
    assert (kind["x402Version"], kind["scheme"], kind["network"]) == (2, "exact", NETWORK)
    assert kind["extra"]["feePayer"] == str(case.fee_payer)
    assert answer["signers"] == {"solana:*": [str(case.fee_payer)]}


@pytest.mark.parametrize("asset", [USDC, CASH], ids=lambda asset: asset.symbol)
async def test_a_sound_payment_is_verified_then_settled_once(case, asset):
    text = f"sound {asset.symbol}"
    transaction, terms = await case.payment(asset=asset, text=text), case.terms(asset, memo_text=text)
    payer = str(case.scout.pubkey())
    assert await case.ask("verify", transaction, terms) == {"isValid": True, "payer": payer}
    before = await case.rpc.tokens(asset.account_of(case.seller))
    settled = await case.ask("settle", transaction, terms)
    assert (settled["success"], settled["payer"], settled["amount"]) == (True, payer, "1000")
    assert await case.rpc.tokens(asset.account_of(case.seller), "confirmed") == before + 1000
    found = await case.rpc.call(
        "getTransaction", settled["transaction"], {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    )
    assert found["meta"]["err"] is None
    again = await case.ask("settle", transaction, terms)
    assert (again["success"], again["errorReason"], again["transaction"]) == (False, "duplicate_settlement", "")
    assert await case.refused(transaction, terms) == "duplicate_settlement"
    assert await case.rpc.tokens(asset.account_of(case.seller)) == before + 1000


async def test_of_two_at_the_same_time_one_settles(case):
    transaction, terms = await case.payment(text="race"), case.terms(memo_text="race")
    answers = await asyncio.gather(*(case.ask("settle", transaction, terms) for _ in range(4)))
    assert sorted(answer.get("errorReason", "") for answer in answers) == ["", *["duplicate_settlement"] * 3]


async def test_the_money_must_be_right(case):
    stranger = Pubkey.new_unique()
    refused, payment, terms = case.refused, case.payment, case.terms
    assert await refused(await payment(amount=999), terms()) == f"{PREFIX}_amount_insufficient"
    assert await refused(await payment(amount=1001), terms()) == f"{PREFIX}_amount_mismatch"
    assert await refused(await payment(to=stranger), terms()) == f"{PREFIX}_recipient_mismatch"
    assert await refused(await payment(asset=CASH), terms(USDC)) == f"{PREFIX}_mint_mismatch"
    assert await refused(await payment(text="other"), terms()) == f"{PREFIX}_memo_mismatch"
    assert await refused(await payment(amount=999), terms(), "settle") == f"{PREFIX}_amount_insufficient"


async def test_the_instructions_must_be_right(case):
    payer, seller = case.scout.pubkey(), case.seller
    move, note = transfer_of(USDC, payer, seller, 1000), memo("order 1")
    gift = transfer(TransferParams(from_pubkey=payer, to_pubkey=seller, lamports=1))
    theft = transfer(TransferParams(from_pubkey=case.fee_payer, to_pubkey=payer, lamports=10**9))
    budget = f"{PREFIX}_transaction_instructions_compute"
    expected = [
        ([move, note], f"{PREFIX}_transaction_instructions_length"),
        ([*BUDGET, move, *[note] * 4], f"{PREFIX}_transaction_instructions_length"),
        ([BUDGET[1], BUDGET[0], move, note], f"{budget}_limit_instruction"),
        ([BUDGET[0], move, BUDGET[1], note], f"{budget}_price_instruction"),
        ([BUDGET[0], set_compute_unit_price(5_000_001), move, note], f"{budget}_price_instruction_too_high"),
        ([*BUDGET, note, move], f"{PREFIX}_no_transfer_instruction"),
        ([*BUDGET, move, gift], f"{PREFIX}_unknown_fourth_instruction"),
        ([*BUDGET, move, note, theft], f"{PREFIX}_unknown_fifth_instruction"),
        ([*BUDGET, move, note, note], f"{PREFIX}_memo_count"),
        ([*BUDGET, move], f"{PREFIX}_memo_count"),
    ]
    for instructions, reason in expected:
        assert await case.refused(await case.payment(instructions=instructions), case.terms()) == reason


async def test_a_memo_is_optional_where_none_is_demanded(case):
    terms = case.terms()
    del terms["extra"]["memo"]
    bare = await case.payment(instructions=[*BUDGET, transfer_of(USDC, case.scout.pubkey(), case.seller, 1000)])
    assert (await case.ask("verify", bare, terms))["isValid"]


async def test_the_facilitators_own_money_is_safe(case):
    """The fee payer signs whatever it settles: it must have no other part in it."""
    asset, fee_payer = USDC, case.world.wallets.facilitator
    steps = payment_instructions(asset, fee_payer.pubkey(), case.seller, 1000)
    message = MessageV0.try_compile(fee_payer.pubkey(), steps, [], await case.rpc.blockhash("confirmed"))
    unsigned = VersionedTransaction.populate(message, [Signature.default()])
    assert await case.refused(unsigned, case.terms()) == f"{PREFIX}_transaction_fee_payer_transferring_funds"


async def test_the_signature_must_be_the_payers(case):
    steps = payment_instructions(USDC, case.scout.pubkey(), case.seller, 1000)
    message = MessageV0.try_compile(case.fee_payer, steps, [], await case.rpc.blockhash("confirmed"))
    forged = VersionedTransaction.populate(message, [Signature.default(), Signature.new_unique()])
    assert await case.refused(forged, case.terms()) == f"{PREFIX}_signature"
    other = VersionedTransaction.populate(
        message, [Signature.default(), Keypair().sign_message(to_bytes_versioned(message))]
    )
    assert await case.refused(other, case.terms()) == f"{PREFIX}_signature"


async def test_tampering_with_a_signed_payment_is_noticed(case):
    transaction = await case.payment(amount=1000, text="tamper")
    wire = bytearray(bytes(transaction))
    at = bytes(wire).index((1000).to_bytes(8, "little"))
    wire[at : at + 8] = (1).to_bytes(8, "little")
    cheaper = VersionedTransaction.from_bytes(bytes(wire))
    assert await case.refused(cheaper, case.terms(memo_text="tamper")) == f"{PREFIX}_amount_insufficient"
    assert await case.refused(cheaper, case.terms(amount=1, memo_text="tamper")) == f"{PREFIX}_signature"


async def test_the_terms_must_be_sound(case):
    transaction = await case.payment()

    def changed(**more):
        return case.terms() | more

    elsewhere = f"solana:{'1' * 32}"
    assert await case.refused(transaction, changed(network=elsewhere)) == "network_mismatch"
    assert await case.refused(transaction, changed(scheme="upto")) == "unsupported_scheme"
    assert await case.refused(transaction, changed(extra={"memo": "order 1"})) == f"{PREFIX}_missing_fee_payer"
    foreign = changed(extra={"feePayer": str(Pubkey.new_unique()), "memo": "order 1"})
    assert await case.refused(transaction, foreign) == "fee_payer_not_managed_by_facilitator"
    assert await case.refused(transaction, changed(payTo="nobody")) == f"{PREFIX}_recipient_mismatch"


async def test_what_was_accepted_must_be_what_is_required(case):
    request = facilitator_request(await case.payment(), case.terms())
    request["paymentPayload"]["accepted"] = case.terms(amount=5)
    answer = (await case.http.post(f"{case.world.places.facilitator}/verify", json=request)).json()
    assert answer["invalidReason"] == "invalid_payload"


async def test_a_simulation_must_succeed(case):
    stale = half_signed(
        payment_instructions(USDC, case.scout.pubkey(), case.seller, 1000),
        case.fee_payer,
        case.scout,
        Hash.default(),
    )
    assert await case.refused(stale, case.terms()) == "transaction_simulation_failed"
    rich_words = await case.payment(amount=10**12, text="boast")
    assert await case.refused(rich_words, case.terms(amount=10**12, memo_text="boast")) == "insufficient_funds"


async def test_a_failed_settlement_may_be_tried_again(case):
    """Nothing was sent, so nothing is remembered: the second try succeeds once the money is there."""
    oracle = case.world.wallets.agents["oracle"]
    late = await case.payment(owner=oracle, amount=50_000_001, text="late")
    terms = case.terms(amount=50_000_001, memo_text="late")
    assert await case.refused(late, terms, "settle") == "insufficient_funds"
    top_up = await case.payment(to=oracle.pubkey(), amount=1, text="top up")
    gift = case.terms(amount=1, memo_text="top up") | {"payTo": str(oracle.pubkey())}
    assert (await case.ask("settle", top_up, gift))["success"]
    assert (await case.ask("settle", late, terms))["success"]


@pytest.mark.parametrize("path", ["verify", "settle"])
async def test_nonsense_is_400_in_the_answers_own_shape(case, path):
    url = f"{case.world.places.facilitator}/{path}"
    sound = facilitator_request(await case.payment(), case.terms())
    broken = copy.deepcopy(sound)
    del broken["paymentPayload"]["accepted"]
    version_1 = {"x402Version": 1, "paymentPayload": {"x402Version": 1}, "paymentRequirements": {}}
    for body in (b"", b"{", b"[]", b"5", httpx.Request("POST", url, json=broken).content,
                 httpx.Request("POST", url, json=version_1).content, b"[" * 50_000):  # fmt: skip
        response = await case.http.post(url, content=body)
        assert response.status_code == 400
        assert response.json().get("invalidReason", response.json().get("errorReason")) == "invalid_payload"
    assert (await case.http.post(url, content=b" " * (2 << 20))).status_code == 413


@pytest.mark.parametrize("transaction", ["", "!!", "AAAA", 5, None, ["x"]])
async def test_transactions_that_are_none(case, transaction):
    request = facilitator_request(await case.payment(), case.terms())
    request["paymentPayload"]["payload"] = {"transaction": transaction}
    answer = (await case.http.post(f"{case.world.places.facilitator}/verify", json=request)).json()
    assert answer["isValid"] is False
    assert answer["invalidReason"] in (f"{PREFIX}_transaction_could_not_be_decoded", "invalid_payload")


async def test_a_settlement_that_is_not_confirmed_in_time_is_pending_and_never_sent_twice():
    clock = ManualClock()
    async with open_world(clock) as still, rpc_of(still) as rpc:
        case = Case(still, rpc, rpc.http)
        chain = ChainClient(still.places.chain, rpc.http)
        facilitator = Facilitator(still.wallets.facilitator, chain, poll_s=0.01, settle_timeout_s=0.05)
        document = facilitator_request(await case.payment(text="slow"), case.terms(memo_text="slow"))
        request = SettleRequest.model_validate(document)
        pending = await facilitator.settle(request)
        assert (pending.success, pending.error_reason) == (False, "settlement_pending")
        again = await facilitator.settle(request)
        assert (again.error_reason, again.transaction) == ("settlement_pending", pending.transaction)
        clock.advance(400)
        settled = await facilitator.settle(request)
        assert (settled.success, settled.transaction) == (True, pending.transaction)
        assert (await facilitator.settle(request)).error_reason == "duplicate_settlement"
        assert await rpc.tokens(USDC.account_of(case.seller)) == 1000


async def test_a_confirmed_transaction_that_failed_is_no_settlement(case):
    """The payer spends its money elsewhere between the simulation and the sending."""
    oracle = case.world.wallets.agents["oracle"]
    held = await case.rpc.tokens(CASH.account_of(oracle.pubkey()))

    class Overtaken(ChainClient):
        async def send(self, transaction):
            drain = await case.payment(asset=CASH, owner=oracle, amount=held, text="drain")
            terms = case.terms(CASH, amount=held, memo_text="drain")
            assert (await case.ask("settle", drain, terms))["success"]
            return await super().send(transaction)

    chain = Overtaken(case.world.places.chain, case.http)
    facilitator = Facilitator(case.world.wallets.facilitator, chain, poll_s=0.01)
    late = await case.payment(asset=CASH, owner=oracle, amount=held, text="too late")
    document = facilitator_request(late, case.terms(CASH, amount=held, memo_text="too late"))
    answer = await facilitator.settle(SettleRequest.model_validate(document))
    assert (answer.success, answer.error_reason) == (False, "transaction_failed")
    status = (await case.rpc.call("getSignatureStatuses", [answer.transaction]))["value"][0]
    assert status["err"] is not None
