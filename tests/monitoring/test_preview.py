"""``plaudit dashboard preview`` against a real Prometheus with a past that is known."""

import argparse
import base64
import html
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from spawned import spawned

from service.monitoring import preview
from service.monitoring.dashboard_file import DashboardError
from service.monitoring.panel_drawing import beside, text_of
from service.monitoring.preview import PreviewError
from service.monitoring.prometheus_api import PrometheusError
from training.service_process import free_port

Preview = Callable[..., int]
HOUR, STEP = 3600, 15


def history(now: int) -> str:
    """An hour of a counter that grows by 2 a second, a gauge of 0.3, and a histogram of which
    nine in ten lie below 0.1."""
    lines = ["# TYPE items counter", "# TYPE share gauge", "# TYPE took histogram"]
    counter, gauge, buckets = [], [], []
    for second in range(0, HOUR, STEP):
        at = now - HOUR + second
        counter.append(f'items_total{{job="a",model="warm"}} {2 * second} {at}')
        gauge.append(f'share{{job="a",model="warm"}} 0.3 {at}')
        for le, part in (("0.1", 9), ("0.5", 10), ("+Inf", 10)):
            buckets.append((le, f'took_bucket{{job="a",le="{le}"}} {part * second} {at}'))
    kinds = [[lines[0], *counter], [lines[1], *gauge]]
    kinds.append([lines[2], *(line for _, line in sorted(buckets, key=lambda one: one[0]))])
    return "\n".join(line for kind in kinds for line in kind) + "\n# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one that knows the last hour of three metrics."""
    if shutil.which("promtool") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    root = tmp_path_factory.mktemp("prometheus")
    (root / "history").write_text(history(int(time.time())))
    (root / "none.yml").write_text("")
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*blocks, root / "history", root / "data"], check=True, capture_output=True)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--config.file={root}/none.yml", f"--storage.tsdb.path={root}/data"),
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with spawned(root / "log", "ready to receive web", *command):
        yield url


def panel(title: str, kind: str, expression: str, x: int = 0, **defaults: object) -> dict:
    target = {"expr": expression, "legendFormat": "{{model}}"}
    return {
        "title": title,
        "type": kind,
        "gridPos": {"h": 8, "w": 8, "x": x, "y": 0},
        "fieldConfig": {"defaults": defaults},
        "targets": [target | ({"format": "heatmap"} if kind == "heatmap" else {})],
    }


@pytest.fixture
def dashboard(tmp_path: Path) -> Path:
    rate = (
        'sum by (model) (rate(items_total{job=~"$job", model=~"${model:regex}"}[$__rate_interval]))'
    )
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 0.25}]
    panels = [
        panel("Rate", "timeseries", rate, unit="cps"),
        panel("Share", "stat", "share", 8, unit="percentunit", thresholds={"steps": steps}),
        panel("Took", "heatmap", "sum by (le) (rate(took_bucket[$__rate_interval]))", unit="s"),
        panel("Nothing", "timeseries", "no_such_metric", 16),
        panel("Odd", "geomap", "share", 16),
    ]
    variables = [{"name": "job"}, {"name": "model"}]
    path = tmp_path / "board.json"
    board = {"title": "A board", "panels": panels, "templating": {"list": variables}}
    path.write_text(json.dumps(board))
    return path


@pytest.fixture
def previewed(prometheus: str, tmp_path: Path) -> Preview:
    """``previewed(path, *flags)`` as on the command line; pictures go to ``tmp_path / "out"``."""

    def run(path: Path, *flags: str) -> int:
        parser = argparse.ArgumentParser()
        preview.add_preview(parser.add_subparsers())
        given = ["preview", str(path), "--out", str(tmp_path / "out")]
        options = parser.parse_args([*given, "--prometheus", prometheus, *flags])
        return options.run(options)

    return run


def drawn(tmp_path: Path) -> str:
    """The picture inside the page."""
    page = (tmp_path / "out/board.html").read_text()
    [picture] = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return base64.b64decode(picture).decode()


def test_panels_show_what_prometheus_knows(
    dashboard: Path, previewed: Preview, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert previewed(dashboard) == 0

    picture = drawn(tmp_path)
    assert "<!-- 30 % -->" in picture  # the stat
    assert "<!-- 2 /s -->" in picture or "<!-- 2/s -->" in picture  # a tick of the rate
    assert "<!-- 100 ms -->" in picture  # an edge of the heatmap
    assert "<!-- warm -->" in picture  # a legend
    assert "<!-- a geomap panel is not drawn -->" in picture
    assert picture.count("<!-- no data -->") == 1
    assert "4 of 5 panels; no data: Nothing" in capsys.readouterr().out
    assert (tmp_path / "out/board.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_needs_nothing_else(dashboard: Path, previewed: Preview, tmp_path: Path) -> None:
    previewed(dashboard)

    page = (tmp_path / "out/board.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "[60s]" in page  # $__rate_interval
    assert "$" not in "".join(re.findall(r"<code>(.*?)</code>", page))


def test_a_variable_narrows_what_is_asked(
    dashboard: Path, previewed: Preview, tmp_path: Path
) -> None:
    previewed(dashboard, "--variable", "model=wa.*")

    assert 'model=~"wa.*"' in html.unescape((tmp_path / "out/board.html").read_text())


def test_a_variable_that_meets_nothing_is_refused_with_what_there_is(
    dashboard: Path, previewed: Preview
) -> None:
    with pytest.raises(PreviewError, match="no such model in that time; there is warm"):
        previewed(dashboard, "--variable", "model=cold")
    with pytest.raises(PreviewError, match="no regular expression"):
        previewed(dashboard, "--variable", "model=(")


def test_what_is_no_prometheus_is_said_to_be_none(dashboard: Path, previewed: Preview) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b'{"title": "No such route", "status": 404}'
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = r"no Prometheus there \(404 at /api/v1/query_range\)"
        with pytest.raises(PrometheusError, match=said):
            previewed(dashboard, "--prometheus", url)
        server.shutdown()


@pytest.mark.parametrize(
    ("share", "text"),
    [(-26.1, "-2610 %"), (0.3, "30 %"), (0.0123, "1.23 %"), (1, "100 %"), (0, "0 %")],
)
def test_a_share_is_never_a_power_of_ten(share: float, text: str) -> None:
    assert text_of(share, "percentunit") == text


def test_a_short_time_is_told_in_seconds(
    dashboard: Path, previewed: Preview, tmp_path: Path
) -> None:
    previewed(dashboard, "--last", "90s")
    assert re.search(r"<!-- \d\d:\d\d:\d\d -->", drawn(tmp_path))
    previewed(dashboard, "--last", "30m")
    assert not re.search(r"<!-- \d\d:\d\d:\d\d -->", drawn(tmp_path))


def test_a_legend_lies_beside_the_lines() -> None:
    axes = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    axes.plot([0, 1], [0, 1], label="warm")
    beside(axes)
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1


def test_a_prometheus_that_does_not_answer_is_named(dashboard: Path, previewed: Preview) -> None:
    with pytest.raises(PrometheusError, match=r"no Prometheus answers at http://127\.0\.0\.1:9 "):
        previewed(dashboard, "--prometheus", "http://127.0.0.1:9")


def test_an_expression_that_is_refused_is_shown(
    dashboard: Path, previewed: Preview, tmp_path: Path
) -> None:
    dashboard.write_text(dashboard.read_text().replace("no_such_metric", "rate("))

    with pytest.raises(PrometheusError, match=r"parse error.* in 'rate\('"):
        previewed(dashboard)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not JSON"), ("[]", "no list of panels"), (None, "No such file")],
)
def test_what_is_no_dashboard_is_refused(
    content: str | None, message: str, dashboard: Path, previewed: Preview
) -> None:
    dashboard.unlink()
    if content is not None:
        dashboard.write_text(content)

    with pytest.raises(DashboardError, match=message):
        previewed(dashboard)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--last", "1w"], "write 90s, 30m, 12h or 7d"),
        (["--variable", "model"], "write NAME=REGEX"),
    ],
)
def test_a_flag_that_cannot_be_read_is_refused(
    flags: list[str], message: str, dashboard: Path, previewed: Preview
) -> None:
    with pytest.raises(PreviewError, match=message):
        previewed(dashboard, *flags)


def test_a_variable_that_the_dashboard_lacks_is_refused(
    dashboard: Path, previewed: Preview
) -> None:
    with pytest.raises(DashboardError, match=r"no variable 'modle'; it has \['job', 'model'\]"):
        previewed(dashboard, "--variable", "modle=warm")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(PreviewError, match=r"needs matplotlib: pip install 'plaudit\[training\]'"):
        preview.needs_matplotlib()


def test_our_own_dashboards_are_all_drawn(
    prometheus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    preview.add_preview(parser.add_subparsers())
    given = ["preview", "--out", str(tmp_path), "--prometheus", prometheus, "--last", "5m"]
    options = parser.parse_args(given)

    assert options.run(options) == 0
    shipped = {path.stem for path in preview.SHIPPED.glob("*.json")}
    assert {path.stem for path in tmp_path.glob("*.html")} == shipped
    assert len(capsys.readouterr().out.splitlines()) == len(shipped) > 0
