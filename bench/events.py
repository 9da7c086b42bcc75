"""Fresh events of full width: every member that a success has. Also as lines for time-series databases.

Made from templates, so that the load generator has little of the two cores: 5 µs an event.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from random import Random

from solders.pubkey import Pubkey
from solders.signature import Signature

AGENTS = 20
SESSIONS = 1_000
RESOURCES = 10_000
"""More than the redaction's cache holds."""
SERVICE = "https://market.example.com"
KINDS = ("api_request", "payment")
Make = Callable[["Source"], str]


def agent_name(number: int) -> str:
    """Name of one of the AGENTS."""
    return f"bench-{number}"


def wallet_address(number: int) -> str:
    """Address of an agent's wallet."""
    return str(Pubkey.from_bytes(number.to_bytes(32, "big")))


class Source:
    """Random values, repeatable but for the ids."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.wallets = [wallet_address(number) for number in range(1, AGENTS + 1)]
        self.paid = [wallet_address(number) for number in range(1_000, 1_100)]
        self.sessions = [new_id() for _ in range(SESSIONS)]

    def below(self, limit: int) -> int:
        """A whole number from 0 up to the limit."""
        return int(self.random.random() * limit)


def new_id() -> str:
    """A UUIDv7 of now."""
    value = os.urandom(10).hex()
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}-7{value[:3]}-8{value[3:6]}-{value[6:18]}"


def api_request(source: Source) -> str:
    """One attempt that was paid and answered, 25 members."""
    agent = source.below(AGENTS)
    digests = os.urandom(64).hex()
    return (
        f'{{"type":"api_request","id":"{new_id()}","agent":"bench-{agent}","request_id":"{new_id()}","attempt":1,'
        f'"max_retries":3,"wallet":"{source.wallets[agent]}","session":"{source.sessions[source.below(SESSIONS)]}",'
        f'"service":"{SERVICE}","endpoint_type":"price",'
        f'"resource":"{SERVICE}/v1/price/{source.below(RESOURCES)}?window=5m","method":"GET","response_status":200,'
        f'"x402_version":2,"payment_id":"{new_id()}","paid":true,"latency_ms":{source.below(900)},"backoff_ms":0,'
        f'"component":"market","breaker_state":"closed","outcome":"ok","request_digest":"{digests[:64]}",'
        f'"response_digest":"{digests[64:]}","response_bytes":{source.below(90_000)},'
        f'"data_as_of":"{time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())}"}}'
    )


def payment(source: Source) -> str:
    """A settlement as its agent tells it, 24 members, two of them objects."""
    agent = source.below(AGENTS)
    signature = Signature(os.urandom(64))
    return (
        f'{{"type":"payment","id":"{new_id()}","agent":"bench-{agent}","payment_id":"{new_id()}",'
        f'"request_id":"{new_id()}","x402_payment_id":"memo-{source.below(10**9)}","wallet":"{source.wallets[agent]}",'
        f'"session":"{source.sessions[source.below(SESSIONS)]}","status":"settled","amount":"{source.below(100_000)}",'
        f'"asset":"USDC","pay_to":"{source.paid[source.below(100)]}","service":"{SERVICE}",'
        f'"resource":"{SERVICE}/v1/price/{source.below(RESOURCES)}?window=5m",'
        f'"facilitator":"https://facilitator.example.com","signature":"{signature}","slot":{source.below(10**9)},'
        f'"commitment":"confirmed","confirmations":1,"fee_lamports":5000,"retry_count":0,"backoff_ms":0,'
        f'"facilitator_response":{{"success":true,"transaction":"{signature}"}},'
        f'"metadata":{{"task":"price check","step":{source.below(9)}}}}}'
    )


MAKE: dict[str, Make] = {"api_request": api_request, "payment": payment}


def bodies(kind: str, *, events: int, per_body: int, repeated: float, seed: int) -> Iterator[bytes]:
    """JSON arrays. `repeated`: the share of each that the one before it has too."""
    source, make = Source(seed), MAKE[kind]
    old: list[str] = []
    for _ in range(max(1, events // per_body)):
        again = old[: int(per_body * repeated)]
        old = [*again, *(make(source) for _ in range(per_body - len(again)))]
        yield f"[{','.join(old)}]".encode()


_TAGS = ("agent", "service", "method", "outcome", "status", "asset", "commitment", "component", "breaker_state")


def as_lines(body: bytes, sequence: int) -> bytes:
    """The same members in InfluxDB's line protocol: few-valued texts as tags, others as fields, no two at one time."""
    now = time.time_ns()
    return "\n".join(
        _line(event, now + (sequence * 10_000 + number)) for number, event in enumerate(json.loads(body))
    ).encode()


def _line(event: dict[str, object], nanoseconds: int) -> str:
    kind = event.pop("type")
    tags = "".join(f",{name}={event.pop(name)}" for name in _TAGS if name in event)
    fields = ",".join(f"{name}={_field(value)}" for name, value in event.items())
    return f"{kind}{tags} {fields} {nanoseconds}"


def _field(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    text = value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
