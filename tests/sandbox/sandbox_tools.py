"""What the sandbox's tests share: worlds, calls, and hand-made payments."""

import asyncio
import base64
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from spl.token.instructions import transfer_checked
from spl.token.models import TransferCheckedParams
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.chain import NETWORK
from sandbox.errors import CannotListen
from sandbox.http_client import http_client
from sandbox.serve import HttpService, listen
from sandbox.tokens import MEMO_PROGRAM_ID, Asset
from sandbox.world import Options, World
from tests.ports import free_ports

WAIT_S = 20


@contextlib.asynccontextmanager
async def open_world(unix_ms=None, **options) -> AsyncIterator[World]:
    """A world on free ports, silent and without shopping unless `options` say otherwise."""
    settings = {"tollwatch_url": "", "pace": 0} | options
    async with contextlib.AsyncExitStack() as stack:
        for attempt in range(10):
            try:
                world = World(Options(port=free_ports(4), **settings), unix_ms)
                await stack.enter_async_context(world)
                break
            except CannotListen:  # somebody else took the port meanwhile
                if attempt == 9:
                    raise
        yield world


class Rpc:
    """Raw JSON-RPC, as any HTTP client would speak it."""

    def __init__(self, url, http):
        self.url = url
        self.http = http

    async def answer(self, method, *params):
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        response = await self.http.post(self.url, json=request)
        assert response.status_code == 200
        answer = response.json()
        assert answer["jsonrpc"] == "2.0"
        assert answer["id"] == 7
        return answer

    async def call(self, method, *params):
        answer = await self.answer(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    async def fails(self, method, *params):
        answer = await self.answer(method, *params)
        assert "error" in answer, answer
        return answer["error"]

    async def code(self, method, *params):
        return (await self.fails(method, *params))["code"]

    async def tokens(self, account, commitment="processed"):
        balance = await self.call("getTokenAccountBalance", str(account), {"commitment": commitment})
        return int(balance["value"]["amount"])

    async def blockhash(self, commitment="processed"):
        answer = await self.call("getLatestBlockhash", {"commitment": commitment})
        return Hash.from_string(answer["value"]["blockhash"])

    async def send(self, transaction, **config):
        return await self.call("sendTransaction", b64(transaction), {"encoding": "base64"} | config)


@contextlib.asynccontextmanager
async def rpc_of(world):
    async with http_client(WAIT_S) as http:
        yield Rpc(world.places.chain, http)


def b64(transaction):
    return base64.b64encode(bytes(transaction)).decode()


def transfer_of(asset: Asset, owner: Pubkey, to: Pubkey, amount: int):
    return transfer_checked(
        TransferCheckedParams(
            program_id=asset.program,
            source=asset.account_of(owner),
            mint=asset.mint,
            dest=asset.account_of(to),
            owner=owner,
            amount=amount,
            decimals=asset.decimals,
        )
    )


def memo(text):
    return Instruction(MEMO_PROGRAM_ID, text.encode(), [])


def signed(instructions, payer: Keypair, blockhash: Hash):
    message = MessageV0.try_compile(payer.pubkey(), instructions, [], blockhash)
    return VersionedTransaction(message, [payer])


def half_signed(instructions, fee_payer: Pubkey, owner: Keypair, blockhash: Hash):
    """As an x402 payer sends it: the fee payer's signature is still empty."""
    message = MessageV0.try_compile(fee_payer, instructions, [], blockhash)
    return VersionedTransaction.populate(
        message, [Signature.default(), owner.sign_message(to_bytes_versioned(message))]
    )


def payment_instructions(asset, owner, to, amount, memo_text="order 1"):
    return [
        set_compute_unit_limit(60_000),
        set_compute_unit_price(1),
        transfer_of(asset, owner, to, amount),
        memo(memo_text),
    ]


def terms_of(world, asset, amount=1000, memo_text="order 1"):
    """Payment requirements as a seller of this world would state them."""
    return {
        "scheme": "exact",
        "network": NETWORK,
        "asset": str(asset.mint),
        "amount": str(amount),
        "payTo": str(world.wallets.seller.pubkey()),
        "maxTimeoutSeconds": 60,
        "extra": {"feePayer": str(world.wallets.facilitator.pubkey()), "memo": memo_text},
    }


def facilitator_request(transaction, terms):
    payload = {"x402Version": 2, "payload": {"transaction": b64(transaction)}, "accepted": terms}
    return {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": terms}


class Recorder:
    """Stands for Tollwatch's endpoint: keeps what it is told, and answers as it is told to."""

    def __init__(self):
        self.puts = []
        self.posts = []
        self.keys = set()
        self.answers = []  # responses to give first, before the ordinary ones
        self.reject = lambda event: None

    @property
    def events(self):
        """Every event of an accepted batch, once for each id, in the order of the ids, which is that of time."""
        unique = {event["id"]: event for batch in self.posts for event in batch}
        return [unique[ident] for ident in sorted(unique)]

    def of_type(self, kind):
        return [event for event in self.events if event["type"] == kind]

    async def _put(self, request):
        self.keys.add(request.headers.get("authorization"))
        if self.answers:
            return self.answers.pop(0)
        self.puts.append((request.url.path, await request.json()))
        return Response(status_code=204)

    async def _post(self, request):
        self.keys.add(request.headers.get("authorization"))
        body = await request.body()
        batch = json.loads(gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body)
        if self.answers:
            return self.answers.pop(0)
        reasons = [self.reject(event) for event in batch]
        self.posts.append([event for event, reason in zip(batch, reasons, strict=True) if reason is None])
        rejected = [
            {"index": index, "id": batch[index]["id"], "code": reason, "message": "no"}
            for index, reason in enumerate(reasons)
            if reason is not None
        ]
        accepted = len(batch) - len(rejected)
        return JSONResponse({"accepted": accepted, "duplicates": 0, "rejected": rejected, "spooled": False})

    def app(self):
        return Starlette(
            routes=[
                Route("/v1/agents/{path:path}", self._put, methods=["PUT"]),
                Route("/v1/events", self._post, methods=["POST"]),
            ]
        )


@contextlib.asynccontextmanager
async def serving(app):
    """An application on a port of its own; yields its URL."""
    bound = listen("127.0.0.1", 0)
    service = HttpService(app, bound)
    await service.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        await service.stop()


async def eventually(condition, wait_s=WAIT_S):
    """Wait until `condition()` is true; an assertion fails after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
