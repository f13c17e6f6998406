"""How long the dashboard takes to show itself, and its figures, in the system's Chromium.

    python benchmarks/first_paint.py                    # on a store with 1,000,000 rows
    python benchmarks/first_paint.py --rows 100000 --visits 5

Each visit is a new browser context: nothing is cached. First paint and first contentful paint are the browser's own paint
timing; "figures" is when totals, chart and latency of the first view are there. The bar is a first paint of at most 300 ms.
The last lines are what the server took for the requests of one refresh of that view.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from http_server import HttpServer
from playwright.sync_api import sync_playwright
from stores import kept_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from playwright.sync_api import Browser

VOICEGW = str(Path(sys.executable).with_name("voicegw"))
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MOST_MS = 300.0
PAINTS = (
    "Object.fromEntries(performance.getEntriesByType('paint').map((each) => [each.name, each.startTime]))"
)
LOADED = "#overview:not([hidden]):not([aria-busy])"
REQUESTS = "performance.getEntriesByType('resource').filter((each) => each.name.includes('/v1/')).map((each) => [each.name, each.responseEnd - each.requestStart])"


def visit(browser: Browser, address: str) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Return the times of one visit in ms since its navigation began, and each request to the API with its ms."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(LOADED, timeout=60_000)
    done = page.evaluate("performance.now()")
    paints = page.evaluate(PAINTS)
    requests = page.evaluate(REQUESTS)
    context.close()
    return {**paints, "figures": done}, requests


def show(title: str, values: Iterable[float], judge: Callable[[float], str] = lambda _: "") -> None:
    figures = sorted(values)
    middle = statistics.median(figures)
    print(
        f"{title:28} median {middle:7.1f} ms   best {figures[0]:7.1f}   worst {figures[-1]:7.1f}{judge(middle)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the dashboard's first paint.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the store (1000000)")
    parser.add_argument("--visits", type=int, default=15, help="after one that warms up (15)")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("There is no chromium; apt-get install -y chromium", file=sys.stderr)
        return 2
    store = kept_store(options.rows)
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "VOICEGW_DB_PATH": str(store)}
        file = str(store.with_name("voicegw.yaml"))
        command = [VOICEGW, "serve", "-p", "0", "--dashboard-port", "0", "-c", file]
        with (
            HttpServer(command, environment, Path(home) / "stderr.txt") as server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
            address = f"http://127.0.0.1:{server.address.port}/"
            visit(browser, address)
            began, cpu = time.monotonic(), server.cpu_s()
            visits = [visit(browser, address) for _ in range(options.visits)]
            took, cpu = time.monotonic() - began, server.cpu_s() - cpu
            browser.close()
    print(f"{options.rows:,} rows, {options.visits} visits in {took:.1f} s")
    show(
        "first paint",
        [times["first-paint"] for times, _ in visits],
        lambda middle: f"   {middle / MOST_MS:.2f} of the {MOST_MS:.0f} ms allowed",
    )
    show("first contentful paint", [times["first-contentful-paint"] for times, _ in visits])
    show("figures", [times["figures"] for times, _ in visits])
    asked = [len(requests) for _, requests in visits]
    print(
        f"{statistics.median(asked):.0f} requests and {cpu / options.visits * 1000:.0f} ms of the server's CPU a visit"
    )
    slowest = max((request for _, requests in visits for request in requests), key=lambda request: request[1])
    print(f"the slowest request: {slowest[1]:.0f} ms, {slowest[0].partition('/v1/')[2]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
