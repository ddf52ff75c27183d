"""Measure the time from a line of the source to its pixels on the page of `stm-keras watch`.

    taskset -c 0 python benchmarks/page_delay.py --data scans.h5

Plays a dataset at 10 lines a second, and reads `window.__stm` in one tab and in four. Needs the
extra `live`, Playwright and Chromium, all of which share the one processor.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from web.browsing import CHROMIUM  # noqa: E402
from web.test_browser import DRAWN, opened  # noqa: E402
from web.watching import Watching  # noqa: E402

SETTLE, SECONDS = 3, 20


def measure(data):
    """Print median, p95 and maximum in ms of each tab."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        with Watching(Path(folder), str(data), "--speed", 10) as watching:
            for count in (1, 4):
                pages = [opened(context, watching) for _ in range(count)]
                time.sleep(SETTLE)
                start = pages[0].evaluate("() => Date.now()")
                time.sleep(SECONDS)
                for page in pages:
                    fresh = f"{DRAWN}.filter((each) => each.sent > {start})"
                    delays = page.evaluate(f"{fresh}.map((each) => each.drawn - each.sent)")
                    delays.sort()
                    middle, most = delays[len(delays) // 2], delays[int(0.95 * len(delays))]
                    print(
                        f"{count} tabs, {len(delays)} lines: median {middle:.0f} ms, ",
                        end="",
                    )
                    print(f"p95 {most:.0f}, max {delays[-1]:.0f}")
                    page.close()
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    measure(parser.parse_args().data.resolve())
