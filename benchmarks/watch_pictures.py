"""Take the pictures of the page of `stm-keras watch`: docs/pictures/watch-*.png.

    python benchmarks/watch_pictures.py -o docs/pictures

Watches the simulated microscope twice, seed 0: at the alarm of its first scan, light, and in the
good tip after it, dark. Needs the extra `live`, Playwright, and Chromium.
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

PICTURES = {  # name: colours of the system, scan and line
    "watch-alarm": ("light", 1, 96),
    "watch-good": ("dark", 3, 110),
}
SIZE = {"width": 1280, "height": 900}
COLOURS = 256  # of a picture, which makes it small


@contextlib.contextmanager
def watched():
    """Watch the simulated microscope; yield the address of its page."""
    words = [sys.executable, "-m", "stm_keras", "watch", "simulated", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        words += ["--no-browser", "--log", folder]
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
        )
        try:
            lines = iter(process.stderr.readline, "")
            yield next(
                found[1] for line in lines if (found := re.match(r"Page: (\S+)", line))
            )
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


def take(folder):
    """Take all pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with watched() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (scheme, scan, line) in PICTURES.items():
            context = browser.new_context(viewport=SIZE, color_scheme=scheme)
            page = context.new_page()
            page.goto(address)
            page.keyboard.press("s")
            wait_for(address, scan, line)
            time.sleep(0.5)
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            Image.open(path).quantize(COLOURS).save(path, optimize=True)
            print(path, path.stat().st_size)
            context.close()
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pictures"))
    take(parser.parse_args().output)
