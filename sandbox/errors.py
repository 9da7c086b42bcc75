"""Everything the sandbox raises on purpose.

SandboxError
├── CannotListen     a port of the sandbox cannot be had
├── BodyTooLarge     a request body is longer than the server reads
├── RpcFault         a JSON-RPC error envelope, given or received
├── PaymentRefused   a payment that the facilitator does not accept, with the x402 reason
├── SessionRefused   the agent's wallet session allows no payment; the seller is not asked
├── TransferFailed   a transfer of the treasury did not go through
└── Stopping         an agent is to stop, wherever it waits
"""


class SandboxError(Exception):
    """The root of the tree."""


class CannotListen(SandboxError):
    """A port of the sandbox cannot be had; the message says which, and what to do."""


class BodyTooLarge(SandboxError):
    """The request body is longer than the limit."""


class RpcFault(SandboxError):
    """A JSON-RPC error: `code`, `message` and, where a Solana node sends it, `data`.

    Codes: https://www.jsonrpc.org/specification#error_object and Agave's `rpc-client-api/src/custom_error.rs`.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class PaymentRefused(SandboxError):
    """The payment is not acceptable; `reason` is the x402 error code, `payer` the address if it is known."""

    def __init__(self, reason: str, message: str = "", payer: str | None = None) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        self.message = message
        self.payer = payer


class SessionRefused(SandboxError):
    """The wallet session allows no more payments."""


class TransferFailed(SandboxError):
    """The treasury's transfer failed, or was not confirmed in time; the message says which."""


class Stopping(SandboxError):
    """The agent is to stop; raised by the pause it was in."""
