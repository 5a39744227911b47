"""A headless Chromium driven over the W3C WebDriver protocol, with the standard library alone."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


class Browser:
    """One browser window; use it as a context."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 1000) -> None:
        assert CHROMIUM and DRIVER
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([DRIVER, f"--port={port}"], **quiet)
        self._await_driver()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        flags += [
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            "--hide-scrollbars",
        ]
        options = {"binary": CHROMIUM, "args": flags}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def _await_driver(self) -> None:
        """Wait until the driver listens."""
        for _ in range(600):
            try:
                if self.call("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("chromedriver did not start within a minute")

    def call(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One WebDriver command; a proxy in the environment is not asked."""
        data = json.dumps(body or {}).encode() if verb == "POST" else None
        request = urllib.request.Request(self.address + path, data=data, method=verb)
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=300) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        """Load a file and wait for it."""
        self.call("POST", f"{self.session}/url", {"url": page.resolve().as_uri()})

    def script(self, source: str) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.call("POST", f"{self.session}/execute/sync", {"script": source, "args": []})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """One command of Chromium's own protocol."""
        body = {"cmd": command, "params": parameters}
        return self.call("POST", f"{self.session}/goog/cdp/execute", body)

    def resize(self, width: int, height: int) -> None:
        """Show the page as a screen of that many pixels would; a window itself has a least width."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **shape)

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        presses = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        keyboard = {"type": "key", "id": "keyboard", "actions": presses}
        self.call("POST", f"{self.session}/actions", {"actions": [keyboard]})

    def console_errors(self) -> list[str]:
        """What the browser complained about, a refused request or script included."""
        entries = self.call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("GET", f"{self.session}/screenshot"))

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(timeout=20)
