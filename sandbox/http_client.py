"""How this package makes HTTP clients: deaf to the environment, with one TLS context for all of them."""

import ssl
from functools import cache

import httpx


@cache
def tls() -> ssl.SSLContext:
    """The TLS context. Reading the certificates takes longer than starting the rest of the sandbox, so it is shared."""
    return ssl.create_default_context()


def http_client(timeout_s: float, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """A client that gives up after `timeout_s` seconds without progress."""
    return httpx.AsyncClient(timeout=timeout_s, headers=headers, trust_env=False, verify=tls())


def sync_client() -> httpx.Client:
    """A client that a recorder reports with, from its own thread."""
    return httpx.Client(trust_env=False, verify=tls())


def http_transport() -> httpx.AsyncHTTPTransport:
    """What is below a client, for a client that puts something in between."""
    return httpx.AsyncHTTPTransport(trust_env=False, verify=tls())
