"""A Chromium without a window, spoken to over its DevTools protocol through a pair of pipes; and a server of files.

It reaches this machine alone: whatever a page wants from elsewhere fails, and is among `problems`.
"""

import base64
import contextlib
import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe"),
)
ANSWER_SECONDS = 30


def program():
    """Path of the browser, None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def served(folder):
    """Address of a web server of this folder, on this machine alone."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *message):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class PageError(Exception):
    """What a page did not do."""


class Browser:
    """One page of one browser. `problems` lists errors on its console and requests that failed."""

    def __init__(self, width, height):
        self.problems, self.number, self.pending, self.session = [], 0, b"", None
        self.width = width
        self.home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (its_in, our_out), (our_in, its_out) = os.pipe(), os.pipe()
        # The browser wants them as 3 and 4: copies above those, lest one takes the other's place.
        its = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (its_in, its_out)]
        script = f'exec "$@" 3<&{its[0]} 4>&{its[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", program(), *OPTIONS, f"--user-data-dir={self.home.name}", "about:blank"],
            pass_fds=its,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (its_in, its_out, *its):
            os.close(end)
        self.reader, self.writer = our_in, our_out
        try:
            self._attach(width, height)
        except BaseException:
            self.__exit__()
            raise

    def _attach(self, width, height):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reader)
        os.close(self.writer)
        self.home.cleanup()

    def call(self, method, **parameters):
        """What a method of the protocol answers."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _read(self, deadline, method):
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.reader], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self.reader, 1 << 16) if ready else b""
            if not part:
                raise PageError(f"{method}: no answer from the browser, whose status is {self.process.poll()}")
            self.pending += part
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def _note(self, message):
        """Keep what went wrong in the page."""
        kind, what = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif kind == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert"):
            self.problems.append(f"console: {[each.get('value') for each in what['args']]}")
        elif kind == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.problems.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")
        elif kind == "Network.loadingFailed" and not what.get("canceled"):
            self.problems.append(f"a request failed: {what['errorText']}")
        elif kind == "Network.responseReceived" and what["response"]["status"] >= 400:
            self.problems.append(f"status {what['response']['status']}: {what['response']['url']}")

    def open(self, address, ready):
        """Go to an address in a fresh page, and wait until the expression `ready` holds."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait(ready)

    def evaluate(self, expression):
        """Value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise PageError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait(self, expression):
        """Wait until an expression holds; one that fails, before its scripts are there, does not hold."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self.evaluate(f"(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()"):
            if time.monotonic() > deadline:
                raise PageError(f"it never held that {expression}; problems: {self.problems}")
            time.sleep(0.05)

    def picture(self, path, height=None):
        """Write what is seen, or its upper part of this height, as PNG."""
        clip = {"clip": {"x": 0, "y": 0, "width": self.width, "height": height, "scale": 1}} if height else {}
        data = self.call("Page.captureScreenshot", format="png", **clip)["data"]
        Path(path).write_bytes(base64.b64decode(data))
