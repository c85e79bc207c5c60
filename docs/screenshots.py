"""Draws the pictures of the pages for the documents: python docs/screenshots.py

It serves the demonstration models (`make demo` trains them), or what the arguments say, which are
those of ``plaudit serve``; asks them for a minute; and writes docs/images. It needs Chromium.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from plaudit.client import RewardClient
from training.service_process import free_port

IMAGES = Path(__file__).parent / "images"
DEMO = ("runs/demo/warm", "runs/demo/ensemble.yaml")
WIDTH, REPORT_WIDTH = 1180, 1000
BENCH = (
    "--workload", "single", "--prompt-tokens", "40", "--response-tokens", "40",
    "--rates", "2", "4", "8", "16", "--seconds", "20", "--slo-ms", "2000",
)  # fmt: skip
WARM_UP_SECONDS, TRAFFIC_SECONDS = 15, 40
PROMPTS = (
    "How do I boil an egg?",
    "Name the largest planet.",
    "Why is the sky blue?",
    "What does a reward model do?",
)
RESPONSES = (
    "Eight minutes in boiling water gives a firm yolk.",
    "Jupiter, by far.",
    "Air scatters blue light more than red.",
    "It tells which of two responses people would rather have.",
    "What a stupid question.",
    "I do not know.",
)


def main(arguments: Sequence[str]) -> None:
    IMAGES.mkdir(exist_ok=True)
    with serving(arguments or DEMO) as (url, admin_url), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        draw_playground(browser, url, "light", "playground.png")
        draw_playground(browser, url, "dark", "playground-dark.png")
        draw_ops(browser, url, admin_url)
        with TemporaryDirectory() as folder:
            draw_bench(browser, url, Path(folder))
            draw_evaluation(browser, arguments or DEMO, Path(folder))
        browser.close()


@contextmanager
def serving(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """URLs of the main and of the admin port of a server of its own."""
    port, admin_port = free_port(), free_port()
    command = [sys.executable, "-m", "plaudit.cli", "serve", *arguments]
    process = subprocess.Popen([*command, "--port", str(port), "--admin-port", str(admin_port)])
    url = f"http://127.0.0.1:{port}"
    try:
        with RewardClient(url) as client:
            client.wait_ready(timeout_seconds=300)
        yield url, f"http://127.0.0.1:{admin_port}"
    finally:
        process.terminate()
        process.wait()


def draw_playground(browser: Browser, url: str, scheme: str, name: str) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme=scheme)
    page.goto(url)
    page.locator("#score:enabled").click()
    page.locator("#verdict").wait_for()
    page.mouse.move(0, 0)
    save(page, "#verdict", name)


def draw_ops(browser: Browser, url: str, admin_url: str) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
    turns = count()
    with RewardClient(url) as client:
        ask(page, client, turns, WARM_UP_SECONDS)
        page.goto(f"{admin_url}/ops")
        ask(page, client, turns, TRAFFIC_SECONDS)
    save(page, "#scores", "ops.png")


def draw_bench(browser: Browser, url: str, folder: Path) -> None:
    """Rates that a small model holds, and the first that it does not."""
    with RewardClient(url) as client:
        model = next(one.name for one in client.models() if one.kind != "ensemble")
    command = ["bench", url, "--model", model, "--out", str(folder / "bench"), *BENCH]
    done = subprocess.run([sys.executable, "-m", "plaudit.cli", *command])
    assert done.returncode in (0, 1)  # 1: some rate is invalid
    page = browser.new_page(viewport={"width": REPORT_WIDTH, "height": 700})
    page.goto((folder / "bench.html").as_uri())
    save(page, "table >> nth=0", "bench.png")


def draw_evaluation(browser: Browser, models: Sequence[str], folder: Path) -> None:
    given = [one for one in models if Path(one).exists()]
    command = ["evaluate", *given, "--data", "examples/demo/evaluate.yaml", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "plaudit.cli", *command], check=True)
    page = browser.new_page(viewport={"width": REPORT_WIDTH, "height": 1000})
    page.goto((folder / "evaluation.html").as_uri())
    save(page, "svg >> nth=1", "evaluation.png")


def ask(page: Page, client: RewardClient, turns: Iterator[int], seconds: float) -> None:
    """Traffic for a while: every model and ensemble, with repeats as trainers' epochs have."""
    names = [model for model in client.models() if model.kind != "objectives"]
    end = time.monotonic() + seconds
    for turn in turns:
        items = [(prompt, f"{one} ({turn // 3})") for prompt in PROMPTS for one in RESPONSES]
        start = turn * 5 % len(items)
        for model in names:
            if model.kind == "ensemble":
                client.ensemble_score(items[start : start + 6], ensemble=model.name)
            else:
                client.score(items[start : start + 3], model=model.name)
        page.wait_for_timeout(50)  # Playwright's own loop turns only while it is waited for
        if time.monotonic() > end:
            return


def save(page: Page, last: str, name: str) -> None:
    """The page from its top to the end of the element ``last``."""
    box = page.locator(last).bounding_box()
    assert box is not None
    height = box["y"] + box["height"] + 12
    assert page.viewport_size is not None
    clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height}
    page.screenshot(path=IMAGES / name, full_page=True, clip=clip)
    with Image.open(IMAGES / name) as picture:
        picture.convert("RGB").quantize(96).save(IMAGES / name, optimize=True)
    print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
