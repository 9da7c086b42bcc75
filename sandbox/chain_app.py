"""The chain's port: JSON-RPC at POST /, a word about the sandbox at GET /, and the books at GET /books."""

from collections.abc import Callable

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.errors import BodyTooLarge
from sandbox.rpc import Rpc
from sandbox.serve import MAX_BODY_BYTES, read_body

Books = Callable[[], object]


def chain_app(rpc: Rpc, books: Books) -> Starlette:
    """The application. `books` answers the document of GET /books."""

    async def call(request: Request) -> Response:
        try:
            answer = rpc.answer(await read_body(request))
        except BodyTooLarge:
            return _json(_too_large(), 413)
        except ClientDisconnect:
            return Response(status_code=400)
        return Response(status_code=204) if answer is None else Response(answer, media_type="application/json")

    async def about(_: Request) -> Response:
        return _json(
            {
                "name": "Tollwatch sandbox",
                "is": "a Solana chain that exists on this machine only; no money here is real",
                "jsonrpc": "POST /",
                "books": "GET /books",
                "methods": rpc.methods,
            }
        )

    async def show_books(_: Request) -> Response:
        return _json(books())

    async def health(_: Request) -> Response:
        return Response("ok", media_type="text/plain")

    return Starlette(
        routes=[
            Route("/", call, methods=["POST"]),
            Route("/", about, methods=["GET"]),
            Route("/books", show_books, methods=["GET"]),
            Route("/health", health, methods=["GET"]),
        ]
    )


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _too_large() -> dict[str, object]:
    error = {"code": -32600, "message": f"The body is longer than {MAX_BODY_BYTES} bytes"}
    return {"jsonrpc": "2.0", "error": error, "id": None}
