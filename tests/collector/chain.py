"""The real Solana VM: the sandbox as a process of its own, and what a stranger can ask and send it."""

from __future__ import annotations

import base64
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from sandbox.genesis import keypair

ROOT = Path(__file__).parent.parent.parent
USDC = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
CASH = Pubkey.from_string("CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH")
PROGRAMS = {USDC: TOKEN_PROGRAM_ID, CASH: TOKEN_2022_PROGRAM_ID}
DECIMALS = 6
TRANSFER_CHECKED = 12
READY_SECONDS = 60


class Chain:
    """The sandbox's chain by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.scout = keypair(1, "agent/scout")
        self.seller = keypair(1, "seller")

    def call(self, method, *params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with httpx.Client(trust_env=False) as client:
            return client.post(self.url, json=body, timeout=10).json()["result"]

    def lamports(self, owner: Pubkey) -> int:
        return self.call("getBalance", str(owner), {"commitment": "confirmed"})["value"]

    def tokens(self, owner: Pubkey, mint: Pubkey) -> int | None:
        """What the chain itself says, found without deriving an address; None: no account."""
        found = self._accounts(owner, mint)
        amounts = [int(item["account"]["data"]["parsed"]["info"]["tokenAmount"]["amount"]) for item in found]
        return sum(amounts) if amounts else None

    def account(self, owner: Pubkey, mint: Pubkey) -> Pubkey:
        (found,) = self._accounts(owner, mint)
        return Pubkey.from_string(found["pubkey"])

    def _accounts(self, owner: Pubkey, mint: Pubkey) -> list[dict[str, Any]]:
        config = {"encoding": "jsonParsed", "commitment": "confirmed"}
        return self.call("getTokenAccountsByOwner", str(owner), {"mint": str(mint)}, config)["value"]

    def airdrop(self, owner: Pubkey, lamports: int) -> None:
        self.confirm(self.call("requestAirdrop", str(owner), lamports))

    def pay(self, mint: Pubkey, amount: int, *, payer: Keypair, to: Pubkey) -> None:
        """A token transfer between existing accounts."""
        source, destination = (self.account(owner, mint) for owner in (payer.pubkey(), to))
        metas = [
            AccountMeta(source, is_signer=False, is_writable=True),
            AccountMeta(mint, is_signer=False, is_writable=False),
            AccountMeta(destination, is_signer=False, is_writable=True),
            AccountMeta(payer.pubkey(), is_signer=True, is_writable=False),
        ]
        data = bytes([TRANSFER_CHECKED]) + amount.to_bytes(8, "little") + bytes([DECIMALS])
        self.send([Instruction(PROGRAMS[mint], data, metas)], payer)

    def send(self, instructions: list[Instruction], payer: Keypair) -> None:
        blockhash = Hash.from_string(self.call("getLatestBlockhash", {"commitment": "confirmed"})["value"]["blockhash"])
        message = MessageV0.try_compile(payer.pubkey(), instructions, [], blockhash)
        raw = bytes(VersionedTransaction(message, [payer]))
        self.confirm(self.call("sendTransaction", base64.b64encode(raw).decode(), {"encoding": "base64"}))

    def confirm(self, signature: str) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            status = self.call("getSignatureStatuses", [signature])["value"][0]
            if status and status["confirmationStatus"] in ("confirmed", "finalized"):
                assert status["err"] is None, status
                return
        raise AssertionError("not confirmed in time")


def start_sandbox() -> tuple[subprocess.Popen[str], str]:
    """The process and its chain's URL. It ends when its standard input does."""
    port = _free_ports(3)
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--pace", "0", "--tollwatch-url", ""]
    command += ["--slot-ms", "20", "--exit-with-stdin"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = read_line(process, READY_SECONDS)
    assert line.startswith("sandbox ready"), line
    return process, f"http://127.0.0.1:{port}"


def read_line(process, seconds: float) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(seconds), "the process said nothing"
    return process.stdout.readline()


def _free_ports(count: int) -> int:
    """The first of `count` adjacent ports that were free a moment ago."""
    for port in range(21000, 30000, 7):
        sockets = []
        try:
            for offset in range(count):
                bound = socket.socket()
                sockets.append(bound)
                bound.bind(("127.0.0.1", port + offset))
            return port
        except OSError:
            continue
        finally:
            for bound in sockets:
                bound.close()
    raise AssertionError("no free ports")
