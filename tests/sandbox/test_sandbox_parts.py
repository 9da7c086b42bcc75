"""The parts that need no server: clocks, base58, ids, ledger, token layouts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.account import Account
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from sandbox import base58, tokens
from sandbox.clock import ManualClock, SlotClock, WallClock
from sandbox.ledger import Balances, Detail, Ledger, Record, UndoLog

PAYER, PROGRAM = Pubkey.new_unique(), Pubkey.new_unique()


@given(st.binary(max_size=80))
def test_base58_round_trip(data):
    assert base58.decode(base58.encode(data)) == data


@given(st.binary(min_size=32, max_size=32))
def test_base58_agrees_with_solders(data):
    assert base58.encode(data) == str(Pubkey.from_bytes(data))


def test_base58_refuses_other_letters():
    with pytest.raises(ValueError, match="'0'"):
        base58.decode("10")


def test_slots_follow_the_clock_from_unix_ms_over_400():
    clock = ManualClock(1_000_000_000_123)
    slots = SlotClock(clock, slot_ms=100)
    assert slots.slot() == 1_000_000_000_123 // 400
    clock.advance(99)
    assert slots.slot() == slots.start_slot
    clock.advance(1)
    assert slots.slot() == slots.start_slot + 1
    assert slots.block_time(slots.start_slot + 10) == 1_000_000_001


@given(slot_ms=st.integers(400, 2000), ran_ms=st.integers(0, 10**9), gap_ms=st.integers(0, 10**6))
def test_a_run_never_begins_before_the_last_ended(slot_ms, ran_ms, gap_ms):
    clock = ManualClock(1_700_000_000_000)
    first = SlotClock(clock, slot_ms)
    clock.advance(ran_ms)
    last = first.slot()
    clock.advance(gap_ms)
    assert SlotClock(clock, slot_ms).slot() >= last


def test_clocks_do_not_go_back():
    with pytest.raises(ValueError, match="back"):
        ManualClock().advance(-1)
    wall = WallClock()
    assert wall() <= wall()


def account(lamports):
    return Account(lamports, b"", Pubkey.default())


def test_the_undo_log_shows_earlier_slots_and_forgets_finalized_ones():
    log, address = UndoLog(), Pubkey.new_unique()
    log.note(10, address, None)
    log.note(10, address, account(1))  # the slot's second change: the state before the slot stays
    log.note(12, address, account(2))
    assert log.find(9, address) == (True, None)
    assert log.find(10, address) == (True, account(2))
    assert log.find(11, address) == (True, account(2))
    assert log.find(12, address) == (False, None)
    log.prune(10)
    assert log.find(10, address) == (True, account(2))
    log.prune(12)
    assert log.find(10, address) == (False, None)


def record(number, *keys):
    nothing = Balances(lamports=(), tokens=())
    message = Message.new_with_blockhash([Instruction(PROGRAM, bytes([number]), [])], PAYER, Hash.default())
    detail = Detail(
        wire=bytes(VersionedTransaction.populate(message, [Signature.default()])),
        loaded_writable=keys,
        loaded_readonly=(),
        fee=0,
        units=0,
        before=nothing,
        after=nothing,
        logs=(),
        inner=(),
        return_data=None,
    )
    return Record(
        signature=number.to_bytes(64, "big"), slot=number, block_time=0, err=None, memo=None, packed=detail.pack()
    )


def test_a_full_ledger_forgets_the_oldest_everywhere():
    ledger = Ledger(limit=10)
    for number in range(25):
        keys = (b"all", b"odd" if number % 2 else b"even", b"once" if number == 3 else b"all")
        ledger.append(record(number, *keys), [bytes(PAYER), bytes(PROGRAM), *keys])
        assert len(ledger) <= 10
    assert ledger.get((14).to_bytes(64, "big")) is None
    assert ledger.get((15).to_bytes(64, "big")).slot == 15
    assert [one.slot for one in ledger.naming(b"all", before=None, until=None)] == list(range(24, 14, -1))
    assert [one.slot for one in ledger.naming(b"odd", before=None, until=None)] == [23, 21, 19, 17, 15]
    assert list(ledger.naming(b"once", before=None, until=None)) == []


def test_a_ledger_pages_between_before_and_until():
    ledger = Ledger()
    for number in range(8):
        ledger.append(record(number, b"a"), [bytes(PAYER), bytes(PROGRAM), b"a"])
    named = {number: number.to_bytes(64, "big") for number in range(9)}

    def page(before, until):
        found = ledger.naming(b"a", before=named.get(before), until=named.get(until))
        return [one.slot for one in found]

    assert page(5, 2) == [4, 3]
    assert page(None, 6) == [7]
    assert page(8, None) == []  # as on a node: an unknown `before` finds nothing,
    assert page(None, 8) == list(range(7, -1, -1))  # and an unknown `until` bounds nothing


@pytest.mark.parametrize(
    ("amount", "decimals", "shown"),
    [(0, 6, "0"), (1, 6, "0.000001"), (1_500_000, 6, "1.5"), (2_000_000, 6, "2"), (7, 0, "7"), (120, 0, "120")],
)
def test_ui_amounts(amount, decimals, shown):
    encoded = tokens.ui_amount(amount, decimals)
    assert encoded["uiAmountString"] == shown
    assert encoded["amount"] == str(amount)


def test_associated_accounts_depend_on_the_token_program():
    owner = Pubkey.new_unique()
    twin = tokens.Asset(symbol="CASH", mint=tokens.CASH.mint, program=tokens.TOKEN_PROGRAM_ID)
    assert tokens.CASH.account_of(owner) != twin.account_of(owner)
