"""Draws two dashboards for the documents: python docs/dashboard_pictures.py MODEL…

It serves the models as docs/screenshots.py does, lets a real Prometheus (on the PATH) read them
every second for four minutes of mixed requests, and writes what ``plaudit dashboard preview``
draws.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import yaml
from PIL import Image
from screenshots import DEMO, IMAGES, PROMPTS, RESPONSES, serving

from plaudit.client import RewardClient
from training.service_process import free_port

MONITORING = Path(__file__).parents[1] / "service/monitoring"
DRAWN = ("overview", "latency")
SECONDS = 260


def main(arguments: Sequence[str]) -> None:
    with TemporaryDirectory() as folder, serving(arguments or DEMO) as (url, admin_url):
        with scraping(Path(folder), admin_url.removeprefix("http://")) as prometheus:
            ask(url, SECONDS)
            command = ["dashboard", "preview", "--prometheus", prometheus, "--last", "4m"]
            command += ["--out", folder]
            subprocess.run([sys.executable, "-m", "plaudit.cli", *command], check=True)
        for name in DRAWN:
            [drawn] = Path(folder).glob(f"*{name}*.png")
            with Image.open(drawn) as picture:
                small = picture.convert("RGB").quantize(255)
                small.save(IMAGES / f"dashboard-{name}.png", optimize=True)


@contextmanager
def scraping(folder: Path, target: str) -> Iterator[str]:
    """The URL of a Prometheus with our configuration and rules, and every interval a second."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    config["rule_files"] = [f"{folder}/*.rules.yml"]
    del config["alerting"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    for path in MONITORING.glob("rules/*.yml"):
        quick = path.read_text().replace("interval: 1m", "interval: 1s")
        (folder / f"{path.stem}.rules.yml").write_text(quick)
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    process = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", *flags])
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def ask(url: str, seconds: float) -> None:
    """Now little, now much; repeats as trainers' epochs have; now and then what is refused."""
    items = [(prompt, one) for prompt in PROMPTS for one in RESPONSES]
    end = time.monotonic() + seconds
    with RewardClient(url) as client, httpx2.Client(base_url=url, timeout=60) as plain:
        names = [model for model in client.models() if model.kind != "objectives"]
        for turn, _ in enumerate(iter(lambda: time.monotonic() > end, True)):
            fresh = [(prompt, f"{one} ({turn // 3})") for prompt, one in items]
            some = fresh[turn % 20 : turn % 20 + 4]
            for model in names:
                if model.kind == "ensemble":
                    client.ensemble_score(some, ensemble=model.name)
                else:
                    client.score(some, model=model.name)
            if turn % 10 == 0:
                plain.post("/score", json={"model": names[0].name, "items": turn})
            time.sleep(0.05 if turn // 100 % 2 else 0.4)


if __name__ == "__main__":
    main(sys.argv[1:])
