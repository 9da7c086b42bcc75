"""The wallet of the examples: the sandbox's visitor, which has a purse. Yours has a wallet of its own."""

import httpx
from x402 import x402Client

from sandbox.chain import NETWORK
from sandbox.chain_client import ChainClient
from sandbox.exact_svm import ExactSvmScheme
from sandbox.genesis import Wallets


def visitor(client: x402Client, chain_url: str, seed: int = 1) -> x402Client:
    """Let the SDK's client pay with it."""
    chain = ChainClient(chain_url, httpx.AsyncClient(timeout=10, trust_env=False))
    scheme = ExactSvmScheme(Wallets.of(seed).visitor, chain)
    return client.register(NETWORK, scheme).on_before_payment_creation(scheme.prepare)
