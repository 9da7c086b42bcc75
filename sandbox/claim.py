"""One payment as its payer sees it, and tells it."""

from collections.abc import Mapping

from x402.schemas import PaymentRequirements

from sandbox import tokens
from sandbox.desk import Desk, Order

SETTLE_ERRORS: Mapping[str, str] = {
    "insufficient_funds": "insufficient_funds",
    "duplicate_settlement": "duplicate",
    "settlement_pending": "timeout",
    "transaction_simulation_failed": "rpc_error",
}
"""error_type by the reason of a refused or failed settlement; any other is `rejected`."""


class Claim:
    """Pending when signed, then settled, failed, or unknown for good."""

    def __init__(self, desk: Desk, order: Order, number: int, terms: PaymentRequirements) -> None:
        self.payment_id = desk.voice.ids.new()
        self.session = desk.sessions.use() if desk.sessions is not None else None
        self.status = "pending"
        self.error_type: str | None = None
        self.reason: str | None = None
        self.desk = desk
        self.terms = terms
        self._order = order
        self._number = number
        self._tell("pending")

    def conclude(self, status: str, error_type: str | None = None, reason: str | None = None, **more: object) -> None:
        """The payment's end, as far as the payer can know it."""
        self.status, self.error_type, self.reason = status, error_type, reason
        self._tell(status, error_type=error_type, failure_reason=reason, **more)
        self.keep(more.get("signature"))
        if status != "settled":
            self._lament()

    def keep(self, signature: object) -> None:
        """Write the end down for the books."""
        tally, diary = self.desk.tally, self.desk.voice.diary
        tally.payments[self.status] += 1
        if self.status == "settled":
            tally.spent += int(self.terms.amount)
            diary.settled.add(payment_id=self.payment_id, signature=signature)
        elif self.status == "unknown":
            diary.unknown.add(
                payment_id=self.payment_id,
                request_id=self._order.request_id,
                x402_payment_id=self.terms.extra.get("memo"),
                error_type=self.error_type,
                asset=self._symbol,
                amount=self.terms.amount,
            )

    @property
    def _symbol(self) -> str:
        return tokens.ASSETS[self.terms.asset].symbol

    def _lament(self) -> None:
        self.desk.voice.audit(
            "payment_failure",
            "error" if self.status == "unknown" else "warning",
            component=self._order.service.name,
            request_id=self._order.request_id,
            entity_type="payment",
            entity_id=self.payment_id,
            details={
                "status": self.status,
                "error_type": self.error_type,
                "amount": self.terms.amount,
                "asset": self._symbol,
            },
        )

    def _tell(self, status: str, **more: object) -> None:
        buyer, terms = self.desk.buyer, self.terms
        self.desk.voice.tell(
            "payment",
            payment_id=self.payment_id,
            request_id=self._order.request_id,
            x402_payment_id=terms.extra.get("memo"),
            wallet=buyer.wallet,
            session=self.session,
            status=status,
            amount=terms.amount,
            asset=self._symbol,
            network=terms.network,
            pay_to=terms.pay_to,
            service=self._order.service.url,
            resource=self._order.resource,
            facilitator=buyer.facilitator,
            retry_count=self._number - 1,
            metadata={"scheme": terms.scheme, "attempt": self._number},
            **more,
        )
