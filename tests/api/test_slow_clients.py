"""Clients that are slow, idle, too many or too large, on real sockets against the real process: they are cut or wait, the
others are served, and memory stays flat."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from store.deadlines import Deadlines
from store.keys import create_key
from store.settings import Settings
from tests.api.world import audit
from tests.databases import ROOT
from tests.e2e.stack import Process, status_of, until
from tests.ports import free_ports

PATIENCE = 60
"""Seconds until a test gives up on a busy machine; none says how fast anything is."""
MAX_CONNECTIONS = 150
FEW = 26
BODY_MEMORY = 32 * 1024**2
UNREAD_MEMORY = 1024**2
ENVIRON = {
    "TOLLWATCH_CLIENT_IDLE": "1s",
    "TOLLWATCH_CLIENT_HEADERS": "500ms",
    "TOLLWATCH_CLIENT_BODY": "1s",
    "TOLLWATCH_CLIENT_READ": "1s",
    "TOLLWATCH_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
    "TOLLWATCH_BODY_MEMORY": "32M",
    "TOLLWATCH_UNREAD_MEMORY": "1M",
    "TOLLWATCH_KEY_BURST": "1s",
    "TOLLWATCH_KEY_BYTES_PER_S": "0",
}


def start(database_url, folder, **environ):
    port = free_ports(1)
    settings = {"TOLLWATCH_DATABASE_URL": database_url, "TOLLWATCH_PORT": str(port), **ENVIRON, **environ}
    process = Process(f"api-{port}", ["cli", "api"], folder, **settings)
    url = f"http://127.0.0.1:{port}"
    until(lambda: status_of(f"{url}/readyz") == 200 or process.popen.poll() is not None, PATIENCE, "the API")
    assert process.popen.poll() is None, process.text()
    return process, url, port


@pytest.fixture(scope="module")
def api(plain_server, tmp_path_factory):
    """One process with small bounds: url, port, pid, settings, and two keys with every scope, one of 20 events a second."""
    name = plain_server.clone()
    database_url = plain_server.url(name)

    def key(**limits):
        made = create_key(
            Settings(database_url=database_url), project="acme", name="test",
            scopes=["ingest", "read", "admin"], deadlines=Deadlines(), **limits,
        )  # fmt: skip
        return asyncio.run(made)

    keys = SimpleNamespace(free=key(), other=key(), slow=key(events_per_s=20))
    process, url, port = start(database_url, tmp_path_factory.mktemp("api"))
    try:
        yield SimpleNamespace(url=url, port=port, pid=process.popen.pid, keys=keys, database_url=database_url)
    finally:
        process.stop()
        plain_server.drop(name)


@pytest.fixture(scope="module")
def small(api, tmp_path_factory):
    """A second process on the same database, with room for few connections, which may take their time."""
    patient = dict.fromkeys(("TOLLWATCH_CLIENT_IDLE", "TOLLWATCH_CLIENT_HEADERS", "TOLLWATCH_CLIENT_BODY"), "1h")
    more = {"TOLLWATCH_MAX_CONNECTIONS": str(FEW), **patient}
    process, url, port = start(api.database_url, tmp_path_factory.mktemp("small"), **more)
    try:
        yield SimpleNamespace(url=url, port=port, pid=process.popen.pid)
    finally:
        process.stop()


def metric(api, name, **labels):
    """A sample of /metrics; 0 where there is none."""
    listed = "".join(f'{label}="{value}"' for label, value in labels.items())
    wanted = name + (f"{{{listed}}}" if labels else "")
    for line in httpx.get(f"{api.url}/metrics", timeout=PATIENCE, trust_env=False).text.splitlines():
        if line.startswith(f"{wanted} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def cut(api, reason):
    return metric(api, "tollwatch_connections_cut_total", reason=reason)


@contextlib.contextmanager
def connection(api, receive=None):
    with socket.socket() as made:
        if receive:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        made.settimeout(PATIENCE)
        made.connect(("127.0.0.1", api.port))
        yield made


def rest(client):
    """All that comes until the server closes; a reset ends it too."""
    read = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(65536):
            read += chunk
    return read


def trickle(client, byte):
    """Send a byte now and then until the server answers or closes; what came."""
    client.settimeout(0.05)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            client.sendall(byte)
            answer = client.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
        client.settimeout(PATIENCE)
        return answer + rest(client)  # what is said in two writes can come in two pieces
    raise AssertionError("never cut")


def head(method, path, key=None, **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_an_idle_connection_is_closed(api):
    before = cut(api, "idle")
    with connection(api) as client:
        assert rest(client) == b""
    assert cut(api, "idle") == before + 1


def test_an_idle_connection_is_closed_after_an_answer_too(api):
    with connection(api) as client:
        client.sendall(head("GET", "/healthz"))
        assert rest(client).startswith(b"HTTP/1.1 200")


def test_trickled_headers_are_cut(api):
    before = cut(api, "headers")
    with connection(api) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        assert trickle(client, b"x") == b""
    assert cut(api, "headers") == before + 1


def test_a_trickled_body_is_answered_408(api):
    with connection(api) as client:
        client.sendall(
            head("POST", "/v1/events", api.keys.free, Content_Type="application/json", Content_Length=10_000)
        )
        answer = trickle(client, b" ")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow_body" in answer


def test_a_trickled_body_of_nobody_is_cut(api):
    before = cut(api, "body")
    with connection(api) as client:
        client.sendall(head("PUT", "/v1/agents/a", Content_Type="application/json", Content_Length=10_000))
        assert trickle(client, b" ") == b""
    assert cut(api, "body") == before + 1


def test_a_body_that_nobody_reads_is_taken_and_forgotten(small):
    """A large body that is refused by its headers: the client hears why, and goes on with the same connection."""
    body = b" " * 3_000_000
    places = set()
    with httpx.Client(base_url=small.url, timeout=PATIENCE, trust_env=False) as client:
        for _ in range(20):
            response = client.post("/v1/events", content=body)
            assert (response.status_code, response.json()["code"]) == (401, "missing_key")
            places.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(places) == 1


def test_a_body_that_nobody_reads_has_a_bound(small):
    before, much = cut(small, "body"), b" " * 50_000_000
    with connection(small) as client:
        client.sendall(head("POST", "/v1/events", Content_Length=len(much)))
        assert client.recv(65536).startswith(b"HTTP/1.1 401")
        with pytest.raises(ConnectionError):
            client.sendall(much)
    assert cut(small, "body") == before + 1


def test_a_client_that_never_reads_is_cut(api):
    before = cut(api, "unread")
    with connection(api, receive=4096) as client:
        client.sendall(head("GET", "/openapi.json") * 200)
        until(lambda: cut(api, "unread") > before, PATIENCE, "a client that does not read")
    until(lambda: metric(api, "tollwatch_unread_bytes") < 100_000, PATIENCE, "unread answers")


def test_unread_answers_have_a_bound_together(api):
    size = len(httpx.get(f"{api.url}/openapi.json", trust_env=False).content)
    before, most = cut(api, "unread"), 0
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connection(api, receive=4096)).sendall(head("GET", "/openapi.json") * 100)
            most = max(most, metric(api, "tollwatch_unread_bytes"))
    assert most > size, "nothing was left unread"
    # Each may hold what is below the transport's high-water mark besides.
    assert most <= UNREAD_MEMORY + 12 * 65_536 + size
    assert cut(api, "unread") > before


@contextlib.contextmanager
def open_files(wanted):
    """This process may open so many; an ordinary user's has 1,024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_connections_at_once_shut_nobody_out(api):
    before = cut(api, "room")
    with open_files(2_500), contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(2_000):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", api.port))
            crowd.append(client)
        for _ in range(10):
            assert status_of(f"{api.url}/healthz") == 200
            assert metric(api, "tollwatch_connections") <= MAX_CONNECTIONS
    assert cut(api, "room") > before


def test_where_all_connections_are_at_work_a_new_one_is_told(small, api):
    with contextlib.ExitStack() as stack:
        for _ in range(FEW):
            client = stack.enter_context(connection(small))
            members = {"Content_Type": "application/json", "Content_Length": 9, "Expect": "100-continue"}
            client.sendall(head("POST", "/v1/events", api.keys.free, **members))
            assert client.recv(65536).startswith(b"HTTP/1.1 100"), "its key is known, and its body awaited"
        with connection(small) as late:
            answer = rest(late)
    assert b"Retry-After" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_many_connections"
    until(lambda: status_of(f"{small.url}/healthz") == 200, PATIENCE, "room again")


def rss(pid, name):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024


async def test_many_large_bodies_at_once_wait_and_memory_stays_flat(small, api):
    # One event without end: what costs memory is the body, and little else.
    body = b'[{"type": "audit", "x": "' + b"x" * (8 * 1024**2 - 100) + b'"}]'
    count, most = FEW - 2, 0
    before = rss(small.pid, "VmRSS")
    done = asyncio.Event()

    async def watch(client):
        nonlocal most
        while not done.is_set():
            text = (await client.get("/metrics")).text
            most = max(most, float(re.search(r"^tollwatch_body_memory_bytes (\S+)", text, re.MULTILINE)[1]))
            await asyncio.sleep(0.05)

    async def send(client, number):
        headers = {
            "Authorization": f"Bearer {api.keys.free if number % 2 else api.keys.other}",
            "Content-Type": "application/json",
        }
        for _ in range(100):
            response = await client.post("/v1/events", content=body, headers=headers)
            if response.status_code == 200:
                return response.json()
            assert (response.status_code, response.json()["code"]) in (
                (429, "too_many_bytes_at_once"), (503, "no_room"),
            )  # fmt: skip
            await asyncio.sleep(int(response.headers["Retry-After"]))
        raise AssertionError(response.text)

    limits = httpx.Limits(max_connections=count + 1)
    async with httpx.AsyncClient(base_url=small.url, timeout=PATIENCE, limits=limits, trust_env=False) as client:
        watching = asyncio.create_task(watch(client))
        answers = await asyncio.gather(*(send(client, number) for number in range(count)))
        done.set()
        await watching
    assert [answer["rejected"][0]["code"] for answer in answers] == ["unknown_field"] * count
    assert len(body) <= most <= BODY_MEMORY
    # Every body of the budget in three copies (as it comes, whole, in parts), and what Python keeps.
    assert rss(small.pid, "VmHWM") - before <= 3 * BODY_MEMORY + 48 * 1024**2 < count * len(body)


def events(count):
    return [audit(agent=None, event_type="x.limit") for _ in range(count)]


def test_a_key_beyond_its_rate_is_told_how_long_to_wait_and_that_is_true(small, api):
    slow, free = ({"Authorization": f"Bearer {key}"} for key in (api.keys.slow, api.keys.free))
    with httpx.Client(base_url=small.url, timeout=PATIENCE, trust_env=False) as client:
        # More than a whole burst goes, and is owed.
        assert client.post("/v1/events", json=events(60), headers=slow).json()["accepted"] == 60
        refused = events(1)
        response = client.post("/v1/events", json=refused, headers=slow)
        assert (response.status_code, response.json()["code"]) == (429, "events_rate")
        seconds = int(response.headers["Retry-After"])
        assert 1 <= seconds <= 2
        assert client.post("/v1/events", json=events(60), headers=free).json()["accepted"] == 60
        assert client.get("/v1/payments", headers=slow).status_code == 200
        time.sleep(seconds)
        answer = client.post("/v1/events", json=refused, headers=slow).json()
        assert (answer["accepted"], answer["duplicates"]) == (1, 0), "the refused batch had stored nothing"


def test_a_key_that_one_process_revokes_stops_in_another(api, small):
    admin = {"Authorization": f"Bearer {api.keys.free}"}
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        asked = {"name": str(uuid.uuid4()), "scopes": ["read"]}
        made = client.post(f"{api.url}/v1/keys", json=asked, headers=admin).json()
        own = {"Authorization": f"Bearer {made['key']}"}
        assert {client.get(f"{each.url}/v1/payments", headers=own).status_code for each in (api, small)} == {200}
        assert client.post(f"{api.url}/v1/keys/{made['prefix']}/revoke", headers=admin).status_code == 200
        assert client.get(f"{api.url}/v1/payments", headers=own).status_code == 401
        until(lambda: client.get(f"{small.url}/v1/payments", headers=own).status_code == 401, PATIENCE, "the other")


def test_more_connections_than_files_are_refused_at_the_start():
    """Rather than when the crowd is there and nothing can be opened, not even the log."""
    command = f"ulimit -n 300 && exec {sys.executable} -m cli api"
    environ = {"TOLLWATCH_DATABASE_URL": "postgresql://nobody@192.0.2.1/nowhere", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert "may open 300 files and needs 1210; raise `ulimit -n`, or lower TOLLWATCH_MAX_CONNECTIONS" in done.stderr
