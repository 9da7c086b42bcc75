from __future__ import annotations

import base64

import msgspec
import pytest
from solders.pubkey import Pubkey

from collector.accounts import (
    SYSTEM_PROGRAM,
    TOKEN_PROGRAMS,
    AccountState,
    decode_account,
    decode_accounts,
    decode_health,
    decode_slot,
    mint_decimals,
    token_amount,
)
from collector.rpc_errors import MalformedAnswer

WALLET, MINT = bytes([1]) * 32, bytes([2]) * 32
TOKEN, TOKEN_2022 = TOKEN_PROGRAMS


def raw(value):
    return msgspec.Raw(msgspec.json.encode(value))


def account(**changes):
    return {"lamports": 5, "owner": str(Pubkey(TOKEN)), "data": [base64.b64encode(b"abc").decode(), "base64"]} | changes


def accounts(*values, slot=9):
    return {"context": {"slot": slot, "apiVersion": "3"}, "value": list(values)}


def state(data, owner=TOKEN):
    return AccountState(lamports=1, owner=owner, data=data)


def held(amount, mint=MINT, wallet=WALLET):
    return mint + wallet + amount.to_bytes(8, "little")


def test_accounts_in_order_with_their_slot():
    found = decode_accounts(raw(accounts(account(), None, account(lamports=2**64 - 1))), 3)
    assert found.slot == 9
    assert found.accounts[0] == AccountState(lamports=5, owner=TOKEN, data=b"abc")
    assert found.accounts[1] is None
    assert found.accounts[2].lamports == 2**64 - 1


@pytest.mark.parametrize(
    "answer",
    [
        accounts(account()),
        accounts(account(), account(), account()),
        accounts(account(), {}),
        accounts(account(), "none"),
        accounts(account(), account(lamports="5")),
        accounts(account(), account(lamports=5.0)),
        accounts(account(), account(lamports=True)),
        accounts(account(), account(lamports=-1)),
        accounts(account(), account(owner="0OIl")),
        accounts(account(), account(owner="11111")),
        accounts(account(), account(data="abc")),
        accounts(account(), account(data=["abc", "base58"])),
        accounts(account(), account(data=["a$c=", "base64"])),
        accounts(account(), account(data=["abc", "base64"])),
        accounts(account(), account(data=[{"parsed": {}}, "base64"])),
        accounts(None, None, slot="9"),
        accounts(None, None, slot=9.5),
        accounts(None, None, slot=True),
        accounts(None, None, slot=-1),
        accounts(None, None, slot=2**63),
        accounts(None, None, slot=None),
        {"value": [None, None]},
        {"context": {"slot": 1}, "value": None},
        {"context": {}, "value": [None, None]},
        [None, None],
        None,
        "ok",
    ],
)
def test_an_answer_that_cannot_be_is_no_value(answer):
    with pytest.raises(MalformedAnswer):
        decode_accounts(raw(answer), 2)


@pytest.mark.parametrize("body", [b"", b"nul", b"\xff\xfe", b"[" * 100_000, b'{"context":'])
def test_what_is_no_json_is_no_value(body):
    with pytest.raises(MalformedAnswer):
        decode_accounts(msgspec.Raw(body), 2)


def test_one_account():
    assert decode_account(raw({"context": {"slot": 1}, "value": None})).accounts == [None]
    with pytest.raises(MalformedAnswer):
        decode_account(raw({"context": {"slot": 1}}))


def test_slots_and_health():
    assert decode_slot(raw(7)) == 7
    for value in (-1, 2**63, "7", 7.5, None, True):
        with pytest.raises(MalformedAnswer):
            decode_slot(raw(value))
    decode_health(raw("ok"))
    with pytest.raises(MalformedAnswer):
        decode_health(raw("behind"))


@pytest.mark.parametrize("program", TOKEN_PROGRAMS)
@pytest.mark.parametrize("amount", [0, 1, 2**63, 2**64 - 1])
def test_token_amounts(program, amount):
    found = state(held(amount) + b"more", program)
    assert token_amount(found, wallet=WALLET, mint=MINT, program=program) == amount


def test_lamports_sent_to_an_address_are_no_token_account():
    assert token_amount(state(b"", SYSTEM_PROGRAM), wallet=WALLET, mint=MINT, program=TOKEN) is None


@pytest.mark.parametrize(
    "lying",
    [
        state(held(1), TOKEN_2022),
        state(held(1), SYSTEM_PROGRAM),
        state(b""),
        state(held(1)[:71]),
        state(held(1, mint=WALLET)),
        state(held(1, wallet=MINT)),
    ],
)
def test_an_account_of_something_else_has_no_amount(lying):
    with pytest.raises(MalformedAnswer):
        token_amount(lying, wallet=WALLET, mint=MINT, program=TOKEN)


def mint(decimals=6, initialised=1, length=82, kind=None):
    data = bytes(44) + bytes([decimals, initialised]) + bytes(36)
    return data if kind is None else data + bytes(83) + bytes([kind]) + bytes(length - 82)


def test_mints_and_their_decimals():
    assert mint_decimals(state(mint(6))) == 6
    assert mint_decimals(state(mint(9, kind=1), TOKEN_2022)) == 9


@pytest.mark.parametrize(
    "other",
    [
        state(mint(), SYSTEM_PROGRAM),
        state(mint(initialised=0)),
        state(mint()[:81]),
        state(mint() + b"x"),
        state(mint(kind=2), TOKEN_2022),
        state(b""),
    ],
)
def test_what_is_no_mint_has_no_decimals(other):
    with pytest.raises(MalformedAnswer):
        mint_decimals(other)
