"""A program that exists, unchanged on the drop-in: selenium's client of Chrome's DevTools, with Chromium."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)"),
]

FLAGS = [
    "--headless",
    "--no-sandbox",  # which root has to say
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]


@pytest.fixture
def cdp(monkeypatch, tw):
    """selenium's module, which has found `tw` when it asked for trio-websocket."""
    pytest.importorskip("selenium", reason="selenium is not installed (pip install selenium)")
    name = "selenium.webdriver.common.bidi.cdp"
    monkeypatch.setitem(sys.modules, "trio_websocket", tw)
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, module)  # so that it is gone afterwards
    assert module.connect_websocket_url is tw.connect_websocket_url
    return module


@pytest.fixture
async def devtools_url(tmp_path):
    """The WebSocket of a browser that runs as long as the test."""
    told = tmp_path / "DevToolsActivePort"
    browser = subprocess.Popen(  # noqa: ASYNC220 - it is started before anything else runs
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        with trio.fail_after(60):
            while len(lines := _lines(told)) < 2:
                assert browser.poll() is None, "the browser has ended"
                await trio.sleep(0.05)
        yield f"ws://127.0.0.1:{lines[0]}{lines[1]}"
    finally:
        browser.kill()
        browser.wait()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_a_session_with_a_browser(cdp, devtools_url):
    devtools = cdp.import_devtools("latest")
    doubled = []

    async def double(session, number):
        result, _ = await session.execute(devtools.runtime.evaluate(f"2 * {number}"))
        doubled.append(result.value)

    with trio.fail_after(60):
        async with cdp.open_cdp(devtools_url) as browser:
            targets = await browser.execute(devtools.target.get_targets())
            page = next(target for target in targets if target.type_ == "page")
            async with browser.open_session(page.target_id) as session:
                result, _ = await session.execute(devtools.runtime.evaluate("'é'.repeat(500000)"))
                assert result.value == "é" * 500_000
                async with trio.open_nursery() as nursery:
                    for number in range(20):
                        nursery.start_soon(double, session, number)
    assert sorted(doubled) == [2 * number for number in range(20)]
