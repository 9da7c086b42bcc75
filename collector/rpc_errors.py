"""What can go wrong between us and Solana nodes. No message holds more of a URL than host and port: keys live there.

RpcError                        (store.errors)
├── EndpointFault               one endpoint failed one try: it rests, and the next one is asked
│   ├── EndpointTimeout         no answer in time
│   ├── EndpointUnreachable     no connection, or it broke
│   ├── RateLimited             HTTP 429
│   ├── AccessRefused           HTTP 401 or 403: a wrong key, or we are blocked
│   ├── HttpFault               another HTTP status
│   ├── NodeFault               a JSON-RPC error that another node need not have
│   ├── MalformedAnswer         no JSON-RPC answer, or a value that cannot be
│   └── WrongChain              its genesis hash is another network's
├── CallRejected                the call itself is wrong: no node would answer it
├── NoEndpoint                  nobody answered within the tries and the deadline of one call
└── IncompleteRun               a run wrote some of what it should have written, or nothing
"""

from __future__ import annotations

from store.errors import RpcError


class EndpointFault(RpcError):
    """A Solana RPC endpoint failed."""

    outcome = "failed"
    """The label of this failure in `tollwatch_rpc_requests_total`."""

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the endpoint asked us to stay away; None: it did not say."""


class EndpointTimeout(EndpointFault):
    """A Solana RPC endpoint did not answer in time."""

    outcome = "timeout"


class EndpointUnreachable(EndpointFault):
    """A Solana RPC endpoint cannot be reached."""

    outcome = "unreachable"


class RateLimited(EndpointFault):
    """A Solana RPC endpoint limits our rate (429)."""

    outcome = "rate_limited"


class AccessRefused(EndpointFault):
    """A Solana RPC endpoint refuses us; check its key in TOLLWATCH_RPC_URLS."""

    outcome = "refused"


class HttpFault(EndpointFault):
    """A Solana RPC endpoint answered with an HTTP error."""

    outcome = "http_error"


class NodeFault(EndpointFault):
    """A Solana node cannot answer now."""

    outcome = "rpc_error"


class MalformedAnswer(EndpointFault):
    """A Solana RPC endpoint gave an answer that cannot be."""

    outcome = "malformed"


class WrongChain(EndpointFault):
    """A Solana RPC endpoint serves another network than TOLLWATCH_NETWORK."""

    outcome = "wrong_chain"


class CallRejected(RpcError):
    """A Solana node rejects the call."""

    outcome = "rejected"


class NoEndpoint(RpcError):
    """No Solana RPC endpoint answered; check TOLLWATCH_RPC_URLS."""


class IncompleteRun(RpcError):
    """Not everything could be read from the chain."""
