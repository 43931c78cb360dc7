"""A browser for the tests of the built book."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """Chromium without a window and without other hosts, spoken to through its debugging protocol."""

    def __init__(self, profile: Path) -> None:
        import websocket

        flags = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
        --disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0""".split()
        rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        self.process = subprocess.Popen(
            [CHROMIUM, *flags, rules, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = profile / "DevToolsActivePort"
        until = time.monotonic() + 60
        while not (port.is_file() and port.read_text().count("\n")):
            assert time.monotonic() < until, "the browser did not start"
            time.sleep(0.1)
        number, path = port.read_text().split()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{number}{path}", timeout=60, suppress_origin=True)
        self.count = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, path: Path) -> list[str]:
        """Open a page, wait until it stands, and return what went wrong on it."""
        self.events.clear()
        answer = self.call("Page.navigate", url=path.as_uri())
        assert "errorText" not in answer, answer
        # A promise of the page that is left dies with it: wait for the new one.
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))
        self.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => 0)")
        self.evaluate("new Promise(done => setTimeout(done, 300))")
        return [fault for event in self.events if (fault := self.fault(event))]

    @staticmethod
    def fault(event: dict[str, Any]) -> str | None:
        parameters = event["params"]
        match event["method"]:
            case "Runtime.exceptionThrown":
                return json.dumps(parameters["exceptionDetails"])
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "assert"}:
                return json.dumps(parameters["args"])
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                return json.dumps(parameters["entry"])
            case "Network.requestWillBeSent" if not parameters["request"]["url"].startswith(
                ("file:", "data:", "blob:")
            ):
                return f"asked for {parameters['request']['url']}"
        return None

    def close(self) -> None:
        self.session = None
        self.call("Browser.close")
        self.socket.close()
        self.process.wait(30)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start one browser for all tests that look at pages."""
    if not CHROMIUM:
        pytest.skip("no chromium installed")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()
