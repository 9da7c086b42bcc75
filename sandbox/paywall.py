"""The seller's side of x402 that does not depend on what is sold: challenges, and reading what comes back."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from pydantic import ValidationError
from solders.pubkey import Pubkey
from x402.http import decode_payment_signature_header
from x402.schemas import PaymentPayload, PaymentRequirements

from sandbox import tokens
from sandbox.chain import NETWORK
from sandbox.clock import UnixMs
from sandbox.troubles import Act

MAX_TIMEOUT_S = 60
"""How long a challenge may be paid: about as long as its blockhash lives."""

MAX_OPEN_CHALLENGES = 10_000
"""Challenges remembered; beyond that the oldest are forgotten, and whoever pays one is asked again."""


@dataclass(frozen=True, kw_only=True)
class _Challenge:
    """The terms of one 402, found again by their memo; `due_ms` is when they lapse, `act` what payment leads to."""

    url: str
    accepts: list[PaymentRequirements]
    due_ms: int
    act: Act


class Challenges:
    """Open challenges. Each has a memo of its own, by which the chain's record of the payment names it."""

    def __init__(self, seller: Pubkey, fee_payer: str, unix_ms: UnixMs) -> None:
        self._seller = seller
        self._fee_payer = fee_payer
        self._unix_ms = unix_ms
        self._open: OrderedDict[str, _Challenge] = OrderedDict()

    def issue(self, url: str, price: int, act: Act = Act.HONEST) -> list[PaymentRequirements]:
        """New terms for `url`, one entry for each asset."""
        memo = secrets.token_hex(16)
        accepts = [
            PaymentRequirements(
                scheme="exact",
                network=NETWORK,
                asset=mint,
                amount=str(price),
                pay_to=str(self._seller),
                max_timeout_seconds=MAX_TIMEOUT_S,
                extra={"feePayer": self._fee_payer, "memo": memo},
            )
            for mint in tokens.ASSETS
        ]
        due_ms = self._unix_ms() + MAX_TIMEOUT_S * 1000
        self._open[memo] = _Challenge(url=url, accepts=accepts, due_ms=due_ms, act=act)
        if len(self._open) > MAX_OPEN_CHALLENGES:
            self._open.popitem(last=False)
        return accepts

    def find(self, url: str, payload: PaymentPayload) -> PaymentRequirements | None:
        """Our own copy of the terms that `payload` accepts; None when we do not offer them, or no longer."""
        challenge = self._open.get(str(payload.accepted.extra.get("memo")))
        if challenge is None or challenge.url != url or challenge.due_ms < self._unix_ms():
            return None
        return next((terms for terms in challenge.accepts if terms == payload.accepted), None)

    def close(self, terms: PaymentRequirements) -> Act | None:
        """Take the challenge off the list; what its payment leads to, or None when another request already has it."""
        challenge = self._open.pop(str(terms.extra["memo"]), None)
        return challenge.act if challenge is not None else None


def read_payload(header: str) -> PaymentPayload | None:
    """The payment in a PAYMENT-SIGNATURE header; None when it is no version 2 payload."""
    try:
        payload = decode_payment_signature_header(header)
    except (ValueError, AttributeError, RecursionError, ValidationError):
        return None  # AttributeError: JSON that is no object, which the SDK does not look for
    return payload if isinstance(payload, PaymentPayload) and payload.x402_version == 2 else None
