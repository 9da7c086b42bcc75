"""A real Chromium, headless, driven over the DevTools protocol: what a person would see, and what the page did for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.e2e.stack import until

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
PATIENCE_S = 30


class Browser:
    """One browser process with a profile of its own."""

    def __init__(self, path: str, folder: Path, flags: tuple[str, ...] = FLAGS) -> None:
        profile = folder / "profile"
        self._log = (folder / "chromium.log").open("ab")
        self._process = subprocess.Popen(
            [path, *flags, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        told = profile / "DevToolsActivePort"
        try:
            port = until(lambda: told.exists() and told.read_text().split("\n")[0], PATIENCE_S, "Chromium is up")
        except BaseException:
            self.close()
            raise
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False)

    @contextmanager
    def tab(
        self, *, width: int = 1280, height: int = 900, mobile: bool = False, scheme: str = "light"
    ) -> Iterator[Tab]:
        """A tab with a screen of its own; closed afterwards."""
        target = self._http.put("/json/new?about:blank").raise_for_status().json()
        url = target["webSocketDebuggerUrl"]
        try:
            with connect(url, max_size=None, compression=None, proxy=None, open_timeout=PATIENCE_S) as socket:
                tab = Tab(socket)
                screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
                tab.call("Emulation.setDeviceMetricsOverride", **screen)
                tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                yield tab
        finally:
            self._http.get(f"/json/close/{target['id']}")

    def close(self) -> None:
        """End the browser and the processes that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._log.close()
        if hasattr(self, "_http"):
            self._http.close()


class Tab:
    """One page. Everything that it says and asks for is kept in `events`, in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0
        self.events: list[dict] = []
        self._answers: dict[str, tuple[int, object]] = {}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict:
        """One command's result. AssertionError: the browser refused it."""
        sent = self._send(method, params)
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == sent:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            if message.get("method") == "Fetch.requestPaused":
                self._answer(message["params"])
            elif "method" in message:
                self.events.append(message)

    def _send(self, method: str, params: Mapping[str, object]) -> int:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        return self._last

    def answer(self, **answers: tuple[int, object]) -> None:
        """From now on the API answers these instead: status and JSON body by the last part of the path (`all`: every
        one); none: as it does.
        """
        self._answers = answers
        self.call(
            "Fetch.enable" if answers else "Fetch.disable",
            **({"patterns": [{"urlPattern": "*/v1/*"}]} if answers else {}),
        )

    def _answer(self, paused: dict) -> None:
        name = urllib.parse.urlsplit(paused["request"]["url"]).path.rpartition("/")[2]
        found = self._answers.get(name, self._answers.get("all"))
        if found is None:
            self._send("Fetch.continueRequest", {"requestId": paused["requestId"]})
            return
        status, body = found
        encoded = base64.b64encode(json.dumps(body).encode()).decode()
        headers = [{"name": "Content-Type", "value": "application/json"}]
        self._send(
            "Fetch.fulfillRequest",
            {"requestId": paused["requestId"], "responseCode": status, "responseHeaders": headers, "body": encoded},
        )

    def open(self, url: str) -> None:
        """Go there, and wait until the document and its scripts are loaded."""
        assert not self.call("Page.navigate", url=url).get("errorText")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> object:
        """What an expression, or its promise, gives. AssertionError: it threw."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE_S) -> object:
        """The first true answer of an expression, through loading and reloading."""

        def ask() -> object:
            # Between two documents there is nothing to ask.
            with contextlib.suppress(AssertionError):
                return self.run(expression)

        return until(ask, seconds, expression)

    def answered(self, *parts: str) -> list[dict]:
        """The items of the last answer that the page got from a URL with these parts."""
        self.run("0")
        urls, done = {}, []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                urls[told["requestId"]] = urllib.parse.unquote(told["request"]["url"])
            elif event["method"] == "Network.loadingFinished":
                done.append(told["requestId"])
        last = [name for name in done if name in urls and all(part in urls[name] for part in parts)][-1]
        return json.loads(self.call("Network.getResponseBody", requestId=last)["body"])["items"]

    def text(self, selector: str) -> str:
        """The text that a person sees there; of all matches, each on its line."""
        return str(
            self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((n) => n.innerText).join('\\n')")
        )

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the screen, or of the whole page."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {**size, "x": 0, "y": 0, "scale": 1}, "captureBeyondViewport": True}
        data = self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False, **clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Errors and warnings: uncaught ones, those on the console, and the browser's own (CSP, failed requests)."""
        self.run("0")  # events up to now have arrived before its answer
        found = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
                found.append(str([item.get("value", item.get("description")) for item in told["args"]]))
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        return found

    def requests(self) -> list[str]:
        """The URL of every request so far."""
        self.run("0")
        sent = ("Network.requestWillBeSent", "Network.webSocketCreated")
        told = [event["params"] for event in self.events if event["method"] in sent]
        return [item["url"] if "url" in item else item["request"]["url"] for item in told]

    def hosts(self) -> set[str]:
        """Hosts and ports that were asked for anything."""
        return {
            urllib.parse.urlsplit(url).netloc
            for url in self.requests()
            if urllib.parse.urlsplit(url).scheme in ("http", "https", "ws", "wss")
        }
