"""The application around the routes: health, schemas, documentation, problems, and the server process itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import jsonschema
import pytest

from api import problems
from api.app import create_app
from api.dependencies import state
from api.events import EVENT_TYPES
from api.examples import EVENTS
from api.problems import Problem
from api.rejections import Code
from api.server import STOPPED, run
from store.errors import (
    DatabaseConflict,
    DatabaseError,
    DatabaseFull,
    DatabaseTimeout,
    InvalidValue,
    NotFound,
    SettingsError,
    StartRefused,
)
from store.settings import Settings
from tests.api.world import audit, lines
from tests.ports import free_ports

ROOT = Path(__file__).parent.parent.parent


def is_problem(response, status, code):
    body = response.json()
    return (
        response.status_code == status == body["status"]
        and response.headers["content-type"] == "application/problem+json"
        and body["code"] == code
        and {"type", "title", "detail"} <= set(body)
    )


async def test_ready_and_alive(anonymous, edition):
    assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
    spool = {"events": 0, "bytes": 0, "oldest_age_s": 0.0}
    assert (await anonymous.get("/readyz")).json() == {"status": "ready", "edition": edition, "spool": spool}


async def test_not_ready_when_the_schema_is_another(anonymous, query):
    await query("UPDATE tollwatch.alembic_version SET version_num = '9999'")
    response = await anonymous.get("/readyz")
    assert is_problem(response, 503, "schema_mismatch")
    assert "9999" in response.json()["detail"]


async def test_the_page_points_on_and_is_no_sandbox(anonymous):
    page = (await anonymous.get("/")).text
    assert all(f'href="{path}"' in page for path in ("/docs", "/metrics", "/readyz"))
    assert "sandbox" not in page


async def test_every_event_type_has_a_schema_that_takes_its_example(anonymous):
    listed = (await anonymous.get("/v1/schemas")).json()["items"]
    assert [item["type"] for item in listed] == list(EVENT_TYPES)
    for item in listed:
        response = await anonymous.get(item["schema"])
        assert response.headers["content-type"] == "application/schema+json"
        schema = response.json()
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        validator.check_schema(schema)
        assert all(member.get("description") for member in schema["properties"].values())
        (example,) = schema["examples"]
        validator.validate(example)
        assert example == EVENTS[item["type"]]
        wrong = (
            {"x": 1},
            {"type": "other"},
            {"id": 5},
            {"id": None},
            {"ts": 5},
            {"network": "eip155:1"},
            {"origin": "chain"},
        )
        for change in wrong:
            assert list(validator.iter_errors(example | change)), change
        for name in schema["required"]:
            assert list(validator.iter_errors({k: v for k, v in example.items() if k != name})), name
    assert is_problem(await anonymous.get("/v1/schemas/other"), 404, "not_found")


async def test_the_schemas_know_amounts(anonymous):
    schemas = {name: (await anonymous.get(f"/v1/schemas/{name}")).json() for name in ("payment", "queue")}
    payment, queue = (jsonschema.Draft202012Validator(schema) for schema in schemas.values())
    assert queue.is_valid(EVENTS["queue"] | {"balance": None})
    for amount, good in (
        (0, True),
        ("5", True),
        (2**63 - 1, True),
        (-1, False),
        (1.5, False),
        ("1e3", False),
        ("", False),
    ):
        assert payment.is_valid(EVENTS["payment"] | {"amount": amount}) is good, amount
        assert queue.is_valid(EVENTS["queue"] | {"balance": amount}) is good, amount


async def test_openapi_documents_ingest_with_examples(anonymous):
    document = (await anonymous.get("/openapi.json")).json()
    ingest = document["paths"]["/v1/events"]["post"]
    bodies = ingest["requestBody"]["content"]
    assert bodies["application/json"]["example"] == list(EVENTS.values())
    assert len(bodies["application/x-ndjson"]["example"].splitlines()) == len(EVENTS)
    assert {"200", "400", "401", "403", "413", "415", "422", "503"} <= set(ingest["responses"])
    assert ingest["responses"]["200"]["content"]["application/json"]["example"]["rejected"][0]["code"] in set(Code)
    listed = document["components"]["schemas"]["Code"]["enum"]
    assert set(listed) == set(Code)
    assert "ProblemDocument" in document["components"]["schemas"]
    assert document["components"]["securitySchemes"]
    assert (await anonymous.get("/docs")).status_code == 200


def _references(document):
    if isinstance(document, dict):
        if isinstance(document.get("$ref"), str):
            yield document["$ref"]
        document = list(document.values())
    for part in document if isinstance(document, list) else ():
        yield from _references(part)


async def test_every_reference_in_openapi_leads_somewhere(anonymous):
    for _ in range(2):  # the second time from FastAPI's own cache
        document = (await anonymous.get("/openapi.json")).json()
        references = set(_references(document))
        assert "#/components/schemas/ProblemDocument" in references
        for reference in references:
            found = document
            for name in reference.removeprefix("#/").split("/"):
                assert name in found, reference
                found = found[name]


def test_every_code_is_documented():
    source = Path(sys.modules["api.rejections"].__file__).read_text()
    for code in Code:
        _, _, after = source.partition(f'{code.name} = "{code.value}"\n')
        assert after.lstrip().startswith('"""'), code


async def test_what_is_not_there_is_a_problem(anonymous):
    assert is_problem(await anonymous.get("/nothing"), 404, "not_found")
    response = await anonymous.delete("/v1/events")
    assert is_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("no such thing"), 404, "not_found"),
        (InvalidValue("too wide"), 422, "invalid_value"),
        (DatabaseConflict("deadlock"), 503, "database_unavailable"),
        (DatabaseTimeout("secret detail"), 503, "database_timeout"),
        (DatabaseFull("secret detail"), 503, "database_full"),
        (Problem(409, "taken", "it is taken"), 409, "taken"),
        (DatabaseError("secret detail"), 500, "internal_error"),
        (ValueError("secret detail"), 500, "internal_error"),
    ],
)
async def test_errors_become_problems_and_the_unexpected_is_logged_not_told(
    app, anonymous, caplog, error, status, code
):
    def fail():
        raise error

    app.dependency_overrides[state] = fail
    with caplog.at_level(logging.DEBUG):
        response = await anonymous.get("/readyz")
    app.dependency_overrides.clear()
    assert is_problem(response, status, code)
    assert "secret" not in response.text
    if status == 500:
        (record,) = [record for record in caplog.records if record.message == problems.UNHANDLED]
        assert record.exc_info[1] is error
        assert response.json()["id"] in str(vars(record))


async def test_it_does_not_open_without_a_database_or_a_schema(empty_database_url, deadlines):
    for settings, error in (
        (Settings(), SettingsError),
        (Settings(database_url=empty_database_url), StartRefused),
    ):
        app = create_app(settings, deadlines)
        with pytest.raises(error):
            async with app.router.lifespan_context(app):
                pass


@pytest.fixture
def port():
    return free_ports()


async def _until_ready(client, task=None):
    async with asyncio.timeout(20):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)
            assert task is None or not task.done(), task


async def test_it_serves_http_and_is_cancelled_cleanly(settings, deadlines, make_key, port):
    settings = replace(settings, port=port)
    headers = {"Authorization": f"Bearer {await make_key()}"}
    task = asyncio.create_task(run(settings, deadlines))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
        await _until_ready(client, task)
        response = await client.post(
            "/v1/events", content=lines(audit(agent=None)), headers={"Content-Type": "application/x-ndjson"}
        )
        assert response.json()["accepted"] == 1
        assert "server" not in response.headers
        too_large = b" " * (settings.max_body + 1)
        response = await client.post("/v1/events", content=too_large, headers={"Content-Type": "application/json"})
        assert is_problem(response, 413, "body_too_large")
        assert (await client.get("/healthz")).status_code == 200
    with pytest.raises(StartRefused, match=rf"port {port} is in use.*TOLLWATCH_PORT"):
        await run(settings, deadlines)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_address_that_is_not_ours_is_refused(database_url, deadlines):
    with pytest.raises(StartRefused, match=r"cannot listen on 192\.0\.2\.1"):
        await run(Settings(database_url=database_url, host="192.0.2.1"), deadlines)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_work_in_hand_end(settings, make_key, port, signum):
    key = await make_key()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "api",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "TOLLWATCH_DATABASE_URL": settings.database_url,
            "TOLLWATCH_PORT": str(port),
            "TOLLWATCH_HOME": str(settings.home),
        },
    )
    began = asyncio.Event()

    async def slowly():
        yield b"["
        began.set()
        await asyncio.sleep(0.3)  # the server hears the signal meanwhile
        yield json.dumps(audit(agent=None)).encode() + b"]"

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
            await _until_ready(client)
            request = asyncio.create_task(client.post("/v1/events", content=slowly()))
            await began.wait()
            process.send_signal(signum)
            assert (await request).json()["accepted"] == 1
        async with asyncio.timeout(10):
            output, errors = await process.communicate()
        assert process.returncode == 0
        assert STOPPED in (output + errors).decode()
        assert "Traceback" not in (output + errors).decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
