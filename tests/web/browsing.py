"""A browser in tests: Debian's Chromium, in which a page asks nobody but us."""

import contextlib
import re
import shutil

import pytest
from helpers import ONCE
from web.watching import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NO_CHROMIUM = "no Chromium here, in which pages are tested: apt-get install chromium"
BROWSER = [
    ONCE,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]
LOCAL = re.compile(r"(https?|wss?)://(127\.0\.0\.1|localhost):\d+/|data:|blob:|about:")


@contextlib.contextmanager
def chromium():
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    # a name that leads to a proxy which can be cut, though the server is the same
    arguments = ["--no-sandbox", "--disable-gpu"]
    arguments.append("--host-resolver-rules=MAP localhost 127.0.0.2")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def window(browser):
    """Open a window in which a request to elsewhere is stopped, and fails the test, as does an
    error of a page.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    elsewhere, errors = [], []

    def stop(route):
        elsewhere.append(route.request.url)
        route.abort()

    context.route(lambda url: not LOCAL.match(url), stop)
    context.on("weberror", lambda error: errors.append(error.error))
    yield context
    context.close()
    assert elsewhere == []
    assert [error.message for error in errors] == []


def opened(context, address, ready):
    """Open a page, and wait until a condition holds in it."""
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(address)
    page.wait_for_function(ready)
    return page
