"""Take the pictures of the pages of `stm-keras watch` and `label`, for docs/pictures.

    python benchmarks/page_pictures.py -o docs/pictures

Watches the simulated microscope twice, seed 0: at the alarm of its first scan, light, and in the
good tip after it, dark. Then labels simulated scans, seed 7. Needs the extra `live`, Playwright,
and Chromium.
"""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WATCHED = {  # name: colours of the system, scan and line
    "watch-alarm": ("light", 1, 96),
    "watch-good": ("dark", 3, 110),
}
LABELLED = {  # name: colours of the system, keys from the first picture on
    "label-change": ("light", ["4", "c", "CLICK", "6"]),
    "label-atoms": ("dark", [*"6\n4\n1\n4\n1"]),
}
CHANGE = 0.325  # where along the scan its tip changes
SIZE = {"width": 1280, "height": 900}
COLOURS = 256  # of a picture, which makes it small
COMMAND = sys.executable, "-m", "stm_keras"


@contextlib.contextmanager
def served(*words):
    """Start a command that has a page; yield its address."""
    words = [*COMMAND, *map(str, words), "--port", "0", "--no-browser"]
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        lines = iter(process.stderr.readline, "")
        yield next(found[1] for line in lines if (found := re.match(r"Page: (\S+)", line)))
    finally:
        process.terminate()
        process.communicate()


def wait_for(address, scan, line):
    """Wait until the microscope is at a line of a scan, or beyond it."""
    while True:
        with urllib.request.urlopen(f"{address}api/state") as answer:
            now = json.load(answer)["scan"]
        if now and (now["number"], now["lines_done"]) >= (scan, line):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def picture(browser, address, scheme, path):
    """Open a page, and take its picture in the end."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme)
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    yield page
    time.sleep(0.5)
    page.screenshot(path=path)
    Image.open(path).quantize(COLOURS).save(path, optimize=True)
    print(path, path.stat().st_size)
    context.close()


def label(page, keys):
    """Type at the page of `label`; CLICK is at the tip change."""
    for key in keys:
        if key == "CLICK":
            box = page.locator("canvas").first.bounding_box()
            page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * CHANGE)
        else:
            page.keyboard.press("Enter" if key == "\n" else key)
        time.sleep(0.5)


def take(folder):
    """Take all pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as temporary:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        with served("watch", "simulated", "--log", temporary) as address:
            for name, (scheme, scan, line) in WATCHED.items():
                with picture(browser, address, scheme, folder / f"{name}.png") as page:
                    page.keyboard.press("s")
                    wait_for(address, scan, line)
        scans = Path(temporary) / "scans.h5"
        words = "simulate", "--count", "40", "--seed", "7", "-o", str(scans)
        subprocess.run([*COMMAND, *words], check=True)
        for name, (scheme, keys) in LABELLED.items():
            records = scans.parent / name
            words = "label", scans, "--rater", "Ada", "--records", records
            with (
                served(*words) as address,
                picture(browser, address, scheme, folder / f"{name}.png") as page,
            ):
                label(page, keys)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pictures"))
    take(parser.parse_args().output)
