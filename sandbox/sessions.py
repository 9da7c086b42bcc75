"""Wallet sessions: an agent may spend from its wallet only under a delegation, for so many payments and so long."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tollwatch.events import ErrorType

from sandbox.chain import NETWORK
from sandbox.clock import UnixMs, rfc3339
from sandbox.voice import Voice

DURATION_S = 3600
TELL_EVERY = 5
"""Uses after which Tollwatch is told the new count, beside the session's begin and end."""

Register = Callable[[str, Mapping[str, Any]], None]
"""Tells Tollwatch a path and the body to PUT there."""


@dataclass(kw_only=True)
class WalletSession:
    """One delegation. Only the hash of its token is kept here: who holds the token, spends."""

    id: str
    token_hash: str
    tx_limit: int
    delegated_ms: int
    tx_used: int = 0
    status: str = "active"
    revoked_ms: int | None = None

    @property
    def expires_ms(self) -> int:
        """The end of its time."""
        return self.delegated_ms + DURATION_S * 1000

    def scope(self) -> dict[str, object]:
        """What it allows."""
        return {"permissions": ["pay"], "tx_limit": self.tx_limit, "duration_s": DURATION_S}

    def body(self, wallet: str) -> dict[str, object]:
        """What Tollwatch is told of it."""
        return {
            "wallet": wallet,
            "network": NETWORK,
            "token_hash": self.token_hash,
            "scope": self.scope(),
            "tx_used": self.tx_used,
            "status": self.status,
            "delegated_at": rfc3339(self.delegated_ms),
            "expires_at": rfc3339(self.expires_ms),
            "revoked_at": rfc3339(self.revoked_ms) if self.revoked_ms is not None else None,
        }


class Sessions:
    """An agent's sessions, one at a time; `current` is the one it pays under."""

    def __init__(
        self, base: str, wallet: str, tx_limit: int, *, voice: Voice, register: Register, unix_ms: UnixMs
    ) -> None:
        self._base = base
        self._wallet = wallet
        self._tx_limit = tx_limit
        self._voice = voice
        self._register = register
        self._unix_ms = unix_ms
        self.current = self._open()

    def refusal(self) -> ErrorType | None:
        """The error_type of a payment that the session does not allow; None when it does."""
        if self.current.expires_ms <= self._unix_ms():
            return "session_expired"
        return "session_limit" if self.current.tx_used >= self.current.tx_limit else None

    def lasts(self, payments: int, ms: int) -> bool:
        """Whether the session allows so many more payments, and so many milliseconds more."""
        session = self.current
        enough = session.tx_limit - session.tx_used >= payments
        return enough and session.expires_ms - self._unix_ms() >= ms

    def use(self) -> None:
        """Count a payment that was signed."""
        session = self.current
        session.tx_used += 1
        if session.tx_used % TELL_EVERY == 0 or session.tx_used == session.tx_limit:
            self._tell()
        else:
            self._note()

    def limit_reached(self, request_id: str) -> None:
        """Say that a payment was refused because the session is used up."""
        session = self.current
        self._voice.audit(
            "session_limit_reached",
            "warning",
            request_id=request_id,
            entity_type="session",
            entity_id=session.id,
            details={"tx_limit": session.tx_limit, "tx_used": session.tx_used},
        )

    def replace(self) -> None:
        """End the current session and begin the next."""
        self.close()
        self.current = self._open()

    def close(self) -> None:
        """End the current session: expired when its time is over, else revoked by its owner."""
        session, now = self.current, self._unix_ms()
        session.status = "expired" if session.expires_ms <= now else "revoked"
        session.revoked_ms = now if session.status == "revoked" else None
        self._tell()
        self._audit(f"session_{session.status}", session, tx_used=session.tx_used)

    def _open(self) -> WalletSession:
        session = self.current = WalletSession(
            id=self._voice.new_id(),
            token_hash=hashlib.sha256(os.urandom(32)).hexdigest(),
            tx_limit=self._tx_limit,
            delegated_ms=self._unix_ms(),
        )
        self._entry = self._voice.diary.sessions.add(id=session.id, tx_limit=session.tx_limit)
        self._tell()
        self._audit("session_created", session, **session.scope())
        return session

    def _audit(self, event_type: str, session: WalletSession, **details: object) -> None:
        self._voice.audit(event_type, entity_type="session", entity_id=session.id, details=details)

    def _tell(self) -> None:
        self._note()
        self._register(f"{self._base}/sessions/{self.current.id}", self.current.body(self._wallet))

    def _note(self) -> None:
        self._entry |= {"tx_used": self.current.tx_used, "status": self.current.status}
