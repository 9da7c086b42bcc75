"""Redaction: secrets go, evidence stays."""

from __future__ import annotations

import json
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from store.errors import InvalidValue
from store.keys import new_key_text
from store.redact import REDACTED, redact_json, redact_text

KEYPAIR = Keypair.from_seed(bytes(range(32)))
PHRASE = "abandon ability able about above absent absorb abstract absurd abuse access accident"
OWN_KEY = "tw_i8G6M9Br_0sEEF20b9Nyhz3kVNqrsMTR1cbsZFZovnzD9gDxYpow"  # fixed: every process must name its tests alike
OPAQUE = "kJ8sPq2LmX9vT4bN7cR1zW5y"
PEM = f"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE{OPAQUE}\n-----END EC PRIVATE KEY-----"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{OPAQUE}"

SECRETS = [
    (f"https://user:{OPAQUE}@api.example.com/v1", OPAQUE),
    (f"https://{OPAQUE}@api.example.com/v1", OPAQUE),
    (f"postgresql://u:p@{OPAQUE}@db/x", OPAQUE),
    (f"https://rpc.example.com/?api-key={OPAQUE}", OPAQUE),
    (f"https://rpc.example.com/?a=1&apiKey={OPAQUE}&b=2", OPAQUE),
    (f"https://x.example.com/?key={OPAQUE}", OPAQUE),
    (f"https://x.example.com/?access_token={OPAQUE}#frag", OPAQUE),
    (f"https://x.example.com/?token={OPAQUE}", OPAQUE),
    (f"https://x.example.com/?X-Amz-Signature={OPAQUE}", OPAQUE),
    (f"https://eth-mainnet.g.alchemy.com/v2/{OPAQUE}", OPAQUE),
    (f"got 401 for Authorization: Bearer {OPAQUE}", OPAQUE),
    (f"bearer {OPAQUE}", OPAQUE),
    (f"Basic {OPAQUE}==", OPAQUE),
    (f"password={OPAQUE}", OPAQUE),
    (f"client_secret: '{OPAQUE}'", OPAQUE),
    (f'{{"apiKey":"{OPAQUE}"}}', OPAQUE),
    (f"sk-proj-{OPAQUE}", OPAQUE),
    (f"sk_live_{OPAQUE}", OPAQUE),
    (f"ghp_{OPAQUE}", OPAQUE),
    (OWN_KEY, "tw_"),
    (f"key is {OWN_KEY}, they said", "tw_"),
    (JWT, OPAQUE),
    (PEM, OPAQUE),
    (PEM[:60], PEM[40:60]),
    (f"signer {KEYPAIR} failed", str(KEYPAIR)),
    (json.dumps(list(bytes(KEYPAIR))), "[0, 1, 2"),
    (PHRASE, "absorb"),
    (f"my words are: {PHRASE}.", "absorb"),
    (PHRASE.replace(" ", ", "), "absorb"),
    (f"{PHRASE} {PHRASE}", "absorb"),
]


def test_a_key_of_ours_goes():
    assert redact_text(f"key is {new_key_text()}, they said") == f"key is {REDACTED}, they said"


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_secret_goes_and_stays_gone(text, secret):
    clean = redact_text(text)
    assert secret not in clean
    assert REDACTED in clean
    assert redact_text(clean) == clean
    for nested in ({"note": text}, {"a": [{"b": text}]}, [text], {text: 1}):
        assert secret not in json.dumps(redact_json(nested))
    long = "x " * 150 + text
    assert secret not in redact_text(long)


def test_what_surrounds_a_secret_stays():
    assert redact_text(f"https://u:{OPAQUE}@api.example.com/v1?api_key={OPAQUE}&symbol=SOL") == (
        "https://[redacted]@api.example.com/v1?api_key=[redacted]&symbol=SOL"
    )


SIGNATURE = str(Signature(random.Random(1).randbytes(64)))
EVIDENCE = [
    "https://market.example.com/v1/price/SOL?symbol=SOL&limit=5",
    "https://market.example.com/v1/price?token=SOL",
    f"https://market.example.com/v1/price?token={Pubkey.from_bytes(bytes([9]) * 32)}",
    f"transaction {SIGNATURE} failed: insufficient funds",
    f"0x{'ab' * 32}",
    str(Pubkey.from_bytes(bytes([9]) * 32)),
    "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "the payment was refused because the seller could not read the header that the client sent",
    "basic authentication is not supported",
    "HTTP 402: payment required",
    "a secret is not a secret",
    "invalid_exact_svm_payload_recipient_mismatch",
    "6b1f1b2e-7c55-4d0e-9a52-0d9f6f0e8f11",
    "market_data@v2",
    "",
]


@pytest.mark.parametrize("text", EVIDENCE)
def test_evidence_stays(text):
    assert redact_text(text) == text
    assert redact_json({"note": [text]}) == {"note": [text]}


@pytest.mark.parametrize(
    "name",
    ["apiKey", "x-api-key", "API_KEY", "client_secret", "privateKey", "Authorization", "cookie", "mnemonic", "seed",
     "seedPhrase", "password", "accessToken", "secretKey", "keypair"],
)  # fmt: skip
def test_a_member_whose_name_says_secret_goes_whatever_it_holds(name):
    for value in ("x", 7, ["a"], {"a": "b"}):
        assert redact_json({"deep": [{name: value}]}) == {"deep": [{name: REDACTED}]}
    assert redact_json({name: None, "other": True}) == {name: None, "other": True}


def test_keys_as_lists_go():
    assert redact_json({"wallet": list(os.urandom(64))}) == {"wallet": REDACTED}
    assert redact_json({"words": PHRASE.split()}) == {"words": REDACTED}
    assert redact_json({"latencies": [1000] * 64}) == {"latencies": [1000] * 64}
    assert redact_json({"tags": ["a"] * 12}) == {"tags": ["a"] * 12}


def test_public_members_stay():
    value = {
        "transaction": SIGNATURE,
        "signature": SIGNATURE,
        "asset": str(KEYPAIR.pubkey()),
        "token": "USDC",
        "payTo": str(KEYPAIR.pubkey()),
        "key": 5,
        "amount": "1000",
    }
    assert redact_json(value) == value


def test_too_deep_is_refused():
    value = 1
    for _ in range(17):
        value = [value]
    with pytest.raises(InvalidValue, match="deeply"):
        redact_json(value)
    assert redact_json(value[0]) == value[0]


@given(st.text(max_size=400))
def test_any_text_is_redacted_once(text):
    clean = redact_text(text)
    assert redact_text(clean) == clean
