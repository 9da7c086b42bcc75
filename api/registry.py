"""`PUT /v1/agents/{name}` and `PUT /v1/agents/{name}/wallets/{address}`: register, idempotently."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from api.dependencies import Caller, State, authorize
from api.problems import Problem, documented
from store.facts import MAX_AMOUNT
from store.redact import redact_json
from store.registry import AgentEntry, WalletEntry, WalletTaken, put_agent, put_wallet

MAX_BODY = 64 * 1024
_INT_DIGITS, _FRACTION_DIGITS = 20, 18  # numeric(38, 18)
_json = msgspec.json.Decoder(float_hook=Decimal)


class _BoundedRequest(Request):
    """Reads a bounded body, and JSON numbers with a fraction as decimals: money never passes through a float."""

    _read: bytes | None = None

    async def body(self) -> bytes:
        """The body. Raises HTTPException 413, which FastAPI lets pass; its own bound would answer in plain text."""
        if self._read is None:
            collected = bytearray()
            async for chunk in self.stream():
                collected += chunk
                if len(collected) > MAX_BODY:
                    raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes", {"Connection": "close"})
            self._read = bytes(collected)
        return self._read

    async def json(self) -> Any:
        """The body. Raises DecodeError, RecursionError: FastAPI answers 400."""
        return _json.decode(await self.body())


class BoundedRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given our kind of request."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(_BoundedRequest(request.scope, request.receive))

        return bounded


router = APIRouter(tags=["registration"], route_class=BoundedRoute)
Registrar = Annotated[Caller, Depends(authorize("ingest", "admin"))]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _whole_tokens(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("must be a decimal number or a string of one")  # noqa: TRY004 (pydantic wants ValueError)
    text = f"{value:f}" if isinstance(value, Decimal) and -_FRACTION_DIGITS <= _exponent(value) <= 0 else str(value)
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and (not fraction or (fraction.isascii() and fraction.isdigit()))):
        raise ValueError("must be digits with an optional fraction: no sign, no exponent")
    if len(whole) > _INT_DIGITS or len(fraction) > _FRACTION_DIGITS:
        raise ValueError(f"must have at most {_INT_DIGITS} digits and {_FRACTION_DIGITS} decimals")
    return Decimal(text)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 1


def _atomic(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19 and str(int(value)) == value:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AMOUNT:
        raise ValueError(f"must be an integer of atomic units, 0 to {MAX_AMOUNT}, or a string of its digits")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
Network = Annotated[
    str, Field(pattern=r"^solana:[-_a-zA-Z0-9]{1,32}$", examples=["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"])
]
Tokens = Annotated[
    Decimal,
    BeforeValidator(_whole_tokens),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}], "examples": ["0.01"]}),
]
Atomic = Annotated[
    int,
    BeforeValidator(_atomic),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}], "examples": ["5000000"]}),
]
AgentName = Annotated[
    str, Path(alias="name", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Unique in the project.")
]


class Body(BaseModel):
    """A body of JSON: no member that is not here, no value of another type."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Endpoint(Body):
    """A paid API that the agent uses."""

    name: Annotated[Text, Field(min_length=1, max_length=100)]
    url: Annotated[Text, Field(min_length=1, max_length=2048, pattern="^https?://")]
    priority: Annotated[int, Field(ge=0, le=1000, description="Lower comes first.")] = 0


class PriorityRules(Body):
    """How the agent orders its queue."""

    funds_threshold: Annotated[Atomic | None, Field(description="Atomic units below which it saves.")] = None
    freshness_window_s: Annotated[
        int | None, Field(ge=0, le=31_536_000, description="Seconds that data stays good.")
    ] = None


class AgentBody(Body):
    """What is to be registered; whatever is left out gets its default."""

    name: Annotated[str | None, Field(description="The name in the path again.")] = None
    network: Annotated[Network | None, Field(description="CAIP-2; default: TOLLWATCH_NETWORK.")] = None
    autonomy_phase: Literal["demo", "interactive", "full"] = "demo"
    api_endpoints: Annotated[list[Endpoint], Field(max_length=50)] = []
    priority_rules: PriorityRules = PriorityRules()
    max_retries: Annotated[int, Field(ge=0, le=1000)] = 3
    low_balance_threshold: Annotated[Tokens, Field(description="Whole tokens, of every asset without a threshold.")] = (
        Decimal("0.01")
    )
    breaker_timeout_s: Annotated[int, Field(ge=0, le=2_592_000, description="Seconds.")] = 300
    active: bool = True


class AgentAnswer(BaseModel):
    """The agent as it is registered now."""

    name: str
    network: str
    autonomy_phase: str
    api_endpoints: list[Endpoint]
    priority_rules: dict[str, Any]
    max_retries: int
    low_balance_threshold: str
    breaker_timeout_s: int
    active: bool


class WalletBody(Body):
    """What is to be registered; thresholds that are left out are forgotten."""

    network: Annotated[Network | None, Field(description="CAIP-2; default: the agent's.")] = None
    thresholds: Annotated[
        dict[Annotated[Text, Field(min_length=1, max_length=100)], Atomic],
        Field(max_length=50, description="Atomic units by symbol or mint.", examples=[{"USDC": "5000000"}]),
    ] = {}


class WalletAnswer(BaseModel):
    """The wallet as it is registered now."""

    agent: str
    address: str
    network: str
    thresholds: dict[str, str]


_PROBLEMS = documented(400, 401, 403, 413, 422, 503)


@router.put(
    "/v1/agents/{name}",
    responses={201: {"model": AgentAnswer, "description": "Registered"}, **_PROBLEMS},
)
async def register_agent(
    name: AgentName, body: AgentBody, response: Response, held: State, caller: Registrar
) -> AgentAnswer:
    """Register an agent, or make it what the body says. Sending the same again changes nothing."""
    if body.name not in (None, name):
        raise Problem(422, "invalid_request", "body.name: it is not the name in the path; leave it out")
    entry = AgentEntry(
        name=name,
        network=body.network or held.settings.network,
        api_endpoints=redact_json([endpoint.model_dump() for endpoint in body.api_endpoints]),
        priority_rules=_rules(body.priority_rules),
        **body.model_dump(
            include={"autonomy_phase", "max_retries", "low_balance_threshold", "breaker_timeout_s", "active"}
        ),
    )
    if await put_agent(held.engine, caller.project_id, entry):
        response.status_code = 201
    held.directory.forget_agent(caller.project_id, name)
    return AgentAnswer.model_validate(vars(entry) | {"low_balance_threshold": f"{entry.low_balance_threshold:f}"})


@router.put(
    "/v1/agents/{name}/wallets/{address}",
    responses={201: {"model": WalletAnswer, "description": "Registered"}, **_PROBLEMS, **documented(404, 409)},
)
async def register_wallet(
    name: AgentName,
    address: Annotated[str, Path(max_length=100, description="Base58.")],
    body: WalletBody,
    response: Response,
    held: State,
    caller: Registrar,
) -> WalletAnswer:
    """Register an agent's wallet with its thresholds; also one that events named before anyone registered it."""
    entry = WalletEntry(agent=name, address=address, network=body.network, thresholds=body.thresholds)
    try:
        created, kept = await put_wallet(held.engine, held.directory, caller.project_id, entry)
    except WalletTaken as exc:
        raise Problem(409, "wallet_taken", str(exc)) from exc
    if created:
        response.status_code = 201
    amounts = {asset: str(amount) for asset, amount in kept.thresholds.items()}
    return WalletAnswer(agent=name, address=address, network=kept.network or "", thresholds=amounts)


def _rules(rules: PriorityRules) -> dict[str, object]:
    """As it is stored: amounts are strings in every JSON."""
    kept = rules.model_dump(exclude_none=True)
    return kept | ({"funds_threshold": str(kept["funds_threshold"])} if "funds_threshold" in kept else {})
