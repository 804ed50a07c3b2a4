"""The Chromium of this machine without a window, by Playwright; and a server of files.

It reaches this machine alone: whatever a page wants from elsewhere fails, and is among the problems.
"""

import contextlib
import functools
import http.server
import shutil
import threading

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",)


def program():
    """Path of the browser, None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def served(folder):
    """Address of a web server of this folder, on this machine alone."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *message):
            pass

        def do_GET(self):
            if self.path != "/favicon.ico":  # the browser asks for it, no page does
                return super().do_GET()
            self.send_response(http.HTTPStatus.NO_CONTENT)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def opened(width, height):
    """(page of Playwright, list of problems): errors on its console, scripts and requests that failed."""
    from playwright.sync_api import sync_playwright

    problems = []

    def failed(why, address):
        if why != "net::ERR_ABORTED":  # by going to another page
            problems.append(f"{why}: {address}")

    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=program(), args=OPTIONS) as chromium:
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.on("console", lambda said: problems.append(f"console: {said.text}") if said.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("requestfailed", lambda asked: failed(asked.failure, asked.url))
            page.on("response", lambda got: problems.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
            yield page, problems
