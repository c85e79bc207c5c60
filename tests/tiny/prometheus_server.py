"""A real Prometheus, of Debian's package, with our rules, and what its query API says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml
from promql_reader import MONITORING
from spawned import spawned

from training.service_process import free_port

# What Grafana fills in where everything is selected and the scrape interval is 1 s.
FILLED = {"$__rate_interval": "20s"} | dict.fromkeys(
    ["$job", "$instance", "$model", "$client"], ".*"
)


class Prometheus:
    def __init__(self, client: httpx2.Client):
        self._client = client

    def values(self, expr: str) -> list[float]:
        """Of the series that the expression has now, with a dashboard's variables filled in."""
        for name, value in FILLED.items():
            expr = expr.replace(name, value)
        found = self._get("/query", query=expr)["result"]
        return [float(one["value"][1]) for one in found]

    def labels(self, name: str, selector: str) -> list[str]:
        """The values of a label among the series selected."""
        found: list[str] = self._get(
            f"/label/{name}/values", **{"match[]": selector.replace("$job", ".*")}
        )
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("/rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **asked: str) -> Any:
        answer = self._client.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@contextmanager
def scraping(directory: Path, target: str, key: str) -> Iterator[Prometheus]:
    """Our configuration, with one target, which wants the key, without an Alertmanager, and every
    interval 1 s."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (directory / "key").write_text(key)
    authorization = {"credentials_file": f"{directory}/key"}
    config["scrape_configs"][0]["authorization"] = authorization
    config["rule_files"] = [f"{directory}/*.rules.yml"]
    del config["alerting"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    for path in MONITORING.glob("rules/*.yml"):
        quick = path.read_text().replace("interval: 1m", "interval: 1s")
        (directory / f"{path.stem}.rules.yml").write_text(quick)
    address = f"127.0.0.1:{free_port()}"
    flags = [
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address={address}",
    ]
    with (
        spawned(directory / "prometheus.log", "ready to receive web", "prometheus", *flags),
        httpx2.Client(base_url=f"http://{address}/api/v1") as client,
    ):
        yield Prometheus(client)
