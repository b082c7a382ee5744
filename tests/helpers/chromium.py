"""Headless Chromium for tests, driven over a pipe with the DevTools protocol.

It needs no driver, no port and no further package.

Debian: apt-get install chromium. CLIPDR_CHROMIUM names another binary.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60  # seconds for one answer


def binary():
    """Path of a Chromium, or None."""
    named = os.environ.get("CLIPDR_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, BINARIES)), None)


class Browser:
    """One page in one browser, as a context.

    `events` holds every message of the browser that was no answer.
    """

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (there, self.write), (self.read, back) = os.pipe(), os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        options += [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            f"--user-data-dir={self.profile.name}",
        ]
        # The browser reads commands from descriptor 3 and answers on 4; the shell renames ours.
        script = f'exec "$0" "$@" 3<&{there} 4>&{back}'
        command = [
            "bash",
            "-c",
            script,
            binary(),
            "--remote-debugging-pipe",
            *options,
            "about:blank",
        ]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(there, back), **silent)
        os.close(there)
        os.close(back)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None
        target = next(
            one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"
        )
        self.session = self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self.write)
        os.close(self.read)
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.profile.cleanup()

    def call(self, method, **params):
        """Result of a command; AssertionError if it fails."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _message(self):
        while b"\0" not in self.buffer:
            part = os.read(self.read, 2**20)
            assert part, "the browser has ended"
            self.buffer += part
        one, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(one)

    def open(self, path, width=1280, height=900, dark=False):
        """Load a file at a size and colour scheme; returns the seconds until its load event."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())
        return time.monotonic() - began

    def js(self, expression):
        """Value of an expression in the page; AssertionError if it throws."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def mouse(self, selector, click=False):
        """Move the mouse to the middle of the first element of a selector; click it if asked."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.js(
            f"{element}.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}})"
        )
        x, y = self.js(
            "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
            f"({element}.getBoundingClientRect())"
        )
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            button = "none" if kind == "mouseMoved" else "left"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def key(self, name, code):
        """Press a key: its name and its virtual key code."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code
            )

    def complaints(self):
        """Messages of the console: exceptions, violations of the policy, failed loads."""
        methods = {
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Runtime.consoleAPICalled",
            "Network.loadingFailed",
        }
        return [event for event in self.events if event.get("method") in methods]

    def requests(self):
        """Addresses asked for, without data URIs."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith("data:")]

    def screenshot(self, path, whole=False):
        """Screenshot as PNG, of the window or of the whole page."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {
                "clip": {
                    "x": 0,
                    "y": 0,
                    "width": size["width"],
                    "height": size["height"],
                    "scale": 1,
                },
                "captureBeyondViewport": True,
            }
        Path(path).write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"])
        )
