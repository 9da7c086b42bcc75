"""The page as it is served: headers, types, what it says of the sandbox, and nothing beside its files."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import httpx
import pytest

from api.app import create_app
from api.page import POLICY
from api.page.files import MEDIA_TYPES
from store.startup import prepare_sandbox
from tests.databases import ROOT

NAMES = sorted(entry.name for entry in files("api.page").iterdir() if entry.name.endswith(tuple(MEDIA_TYPES)))
SCRIPTS = [name for name in NAMES if name.endswith(".js")]
PATHS = ["/", *(f"/page/{name}" for name in NAMES)]


def source(name):
    return (files("api.page") / name).read_text()


class Tags(HTMLParser):
    """Every tag with its attributes, and the text inside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.inline = ""
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.inline += data.strip()

    def attribute(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture
def database_url(plain_server):
    """One edition is enough: the page reads nothing itself."""
    name = plain_server.clone()
    yield plain_server.url(name)
    plain_server.drop(name)


@pytest.fixture
async def sandbox(settings, deadlines, clock):
    """Clients of an application whose sandbox runs."""
    settings = replace(settings, sandbox=True)
    await prepare_sandbox(settings, deadlines)
    app = create_app(settings, deadlines, clock=clock)
    async with app.router.lifespan_context(app):
        yield lambda host: httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{host}")


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_is_served_with_its_type_and_the_policy(anonymous, path):
    answer = await anonymous.get(path)
    assert answer.status_code == 200
    suffix = "." + path.rpartition(".")[2]
    assert answer.headers["content-type"] == MEDIA_TYPES.get(suffix, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.content
    head = await anonymous.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == answer.headers["etag"]


def test_the_policy_allows_nothing_but_this_origin():
    directives = dict(part.strip().split(" ", 1) for part in POLICY.split(";"))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize("path", ["/", "/page/page.css"])
async def test_a_file_that_the_browser_has_is_not_sent_again(anonymous, path):
    etag = (await anonymous.get(path)).headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await anonymous.get(path, headers={"If-None-Match": held})
        assert (answer.status_code, answer.content) == (304, b""), held
        assert answer.headers["etag"] == etag
        assert answer.headers["content-security-policy"] == POLICY
    assert (await anonymous.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/none.js",
        "/page/index.html",
        "/page/__init__.py",
        "/page/files.py",
        "/page/PAGE.JS",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e%2fapp.py",
        "/page/..%5capp.py",
        "/page//etc/passwd",
        "/page/%00",
        "/page/page.js%00.css",
    ],
)
async def test_nothing_else_is_served(anonymous, path):
    answer = await anonymous.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_page_is_for_reading(anonymous):
    for path in ("/", "/page/page.js"):
        assert (await anonymous.post(path)).status_code == 405


async def test_production_brings_no_key_and_no_word_of_a_sandbox(anonymous):
    page = (await anonymous.get("/")).text
    assert "<title>Tollwatch</title>" in page
    assert 'name="tollwatch-key" content=""' in page
    assert "sandbox" not in page.lower()
    assert "$" not in page


async def test_the_sandbox_says_so_and_brings_its_key_to_this_machine_only(sandbox):
    answers = {}
    for host in ("127.0.0.1:8402", "localhost", "[::1]", "tollwatch.example", "192.0.2.7"):
        async with sandbox(host) as client:
            answers[host] = await client.get("/")
    for host, answer in answers.items():
        assert "<title>Tollwatch (sandbox)</title>" in answer.text
        assert "no real money" in answer.text
        is_near = host in ("127.0.0.1:8402", "localhost", "[::1]")
        assert ("tollwatch-dev" in answer.text) is is_near, host
    assert answers["localhost"].headers["etag"] != answers["192.0.2.7"].headers["etag"]


def test_nothing_is_inline():
    page = Tags(source("index.html"))
    assert page.inline == ""
    assert not page.attribute("style")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(attributes.get("src") for tag, attributes in page.tags if tag == "script")


def test_every_reference_stays_here_and_leads_somewhere():
    page = Tags(source("index.html"))
    led = page.attribute("src") + page.attribute("href")
    assert all(target.startswith(("/", "#")) and not target.startswith("//") for target in led)
    own = {target.removeprefix("/page/") for target in led if target.startswith("/page/")}
    for name in SCRIPTS:
        own |= {
            target.removeprefix("./") for target in re.findall(r'^import .*from "(.+)";$', source(name), re.MULTILINE)
        }
    assert own == set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, "index.html"])
def test_no_file_names_another_host(name):
    assert set(re.findall(r"https?://[^\s\"'`)]+", source(name))) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in source(name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_becomes_text_only(name):
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setAttribute\(\"style|localStorage"
    assert not re.search(forbidden, source(name))


def test_the_package_carries_the_files():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert {f"*{suffix}" for suffix in (*MEDIA_TYPES, ".html")} <= set(declared)
