"""The page of operations, of a real admin port; Prometheus' own code is the oracle."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect
from prometheus_client.parser import text_string_to_metric_families
from promtool import evaluate

ITEMS = [{"prompt": f"Question {i}?", "response": "Because it is so. " * i} for i in range(1, 9)]
LATENCY = "plaudit_http_request_duration_seconds"
# Of the page's own modules.
IMPORTED = """async (text) => {
  const { parse } = await import("/ui/exposition.js");
  return [...parse(text)].flatMap(([name, series]) =>
    series.map(({ labels, value }) => [name, labels, String(value)]));
}"""
QUANTILES = """async ([buckets, asked]) => {
  const { quantile } = await import("/ui/scrapes.js");
  const read = buckets.map(([edge, count]) => ({ edge: Number(edge), count }));
  return asked.map((q) => quantile(q, read));
}"""

SPAN = """async ([before, after]) => {
  const { parse } = await import("/ui/exposition.js");
  const { Scrape, Span } = await import("/ui/scrapes.js");
  const span = new Span(new Scrape(parse(after), 12), new Scrape(parse(before), 10));
  return {
    rate: span.rate("plaudit_rewards_total"),
    scores: span.buckets("plaudit_score").map(({ edge, count }) => [String(edge), count]),
  };
}"""


@pytest.fixture(scope="module")
def ports(url: str, admin_url: str) -> tuple[str, str]:
    """URLs of the main and of the admin port, after some traffic."""
    for _ in range(2):
        ensemble = {"ensemble": "careful", "items": ITEMS}
        httpx2.post(url + "/ensemble_score", json=ensemble, timeout=120).raise_for_status()
    return url, admin_url


@pytest.fixture
def ops(open_page: Callable[..., Page], ports: tuple[str, str]) -> Page:
    page = open_page(ports[1] + "/ops")
    expect(page.locator("#stages tbody tr").first).to_be_visible()
    return page


@pytest.fixture
def paused(ops: Page) -> tuple[Page, Callable[..., float]]:
    """The page at rest, over all since the start, and the sums in what it read last:
    ``metrics("plaudit_x_total", model="m0")``."""
    answers = []
    ops.on("response", lambda one: one.url.endswith("/metrics") and answers.append(one))
    with ops.expect_response("**/metrics"):
        pass
    ops.get_by_role("button", name="Pause").click()
    ops.wait_for_load_state("networkidle")
    ops.get_by_label("Over", exact=True).select_option("all")
    expect(ops.locator("#read")).to_contain_text("all since the start")
    read = [
        one
        for family in text_string_to_metric_families(answers[-1].text())
        for one in family.samples
    ]

    def add(name: str, **labels: str) -> float:
        fits = [one for one in read if one.name == name and labels.items() <= one.labels.items()]
        assert fits, name
        return sum(one.value for one in fits)

    return ops, add


def tile(page: Page, name: str) -> str:
    return page.locator(f"[data-fact='{name}']").inner_text()


def test_what_the_tiles_say_is_what_the_metrics_say(paused):
    ops, metrics = paused
    hits = metrics("plaudit_cache_lookups_total", tier="l1", result="hit")
    asked = metrics("plaudit_cache_lookups_total", tier="l1")
    assert asked > hits > 0
    assert tile(ops, "hits") == f"{hits / asked * 100:.1f} %"
    fill = metrics("plaudit_batch_fill_ratio_sum") / metrics("plaudit_batch_fill_ratio_count")
    assert tile(ops, "fill") == f"{fill * 100:.1f} %"
    assert tile(ops, "failed") == "0.0 %"
    assert tile(ops, "queue") == "0"
    for name in ("requests", "rewards", "tokens"):
        assert float(tile(ops, name).split()[0]) > 0


def test_every_model_is_there_with_its_revision_and_scores(paused, ports):
    ops, metrics = paused
    models = httpx2.get(ports[1] + "/ops/models", timeout=120).json()["models"]
    assert models == httpx2.get(ports[0] + "/models", timeout=120).json()["models"]
    rows = ops.locator("#models tbody tr")
    expect(rows).to_have_count(len(models))
    for row, model in zip(rows.all(), models, strict=True):
        expect(row.locator("th")).to_have_text(model["name"])
        expect(row.locator("code")).to_have_attribute("title", model["revision"])
        expect(row).to_contain_text("loaded")
    count = metrics("plaudit_score_bucket", model="m0", le="+Inf")
    expect(ops.locator("#scores figure", has_text="m0")).to_contain_text(f"{count:g} scores")
    bars = ops.locator("#scores figure", has_text="m0").locator("rect title").all_text_contents()
    assert sum(float(bar.rpartition(": ")[2]) for bar in bars) == count


def test_the_page_reads_on_until_paused(ops, ports):
    read = ops.locator("#read")
    with ops.expect_response("**/metrics"):
        pass
    expect(read).to_contain_text(" s.")  # of two readings at least
    ops.get_by_role("button", name="Pause").click()
    expect(ops.get_by_role("button", name="Resume")).to_have_attribute("aria-pressed", "true")
    ops.wait_for_load_state("networkidle")
    asked = []
    ops.on("request", lambda request: asked.append(request.url))
    ops.clock.install()
    ops.clock.run_for(30_000)
    assert asked == []
    with ops.expect_response("**/metrics"):
        ops.get_by_role("button", name="Resume").click()


def test_a_service_that_is_gone_is_said_and_its_return_too(ops):
    ops.context.set_offline(True)
    problem, badge = ops.locator("#problem"), ops.locator("#state")
    expect(problem).to_contain_text("Nothing answers at http://127.0.0.1:")
    expect(problem).not_to_contain_text("Failed to fetch")
    expect(badge).to_contain_text("no answer since")
    expect(badge).to_have_class("mark wrong")
    expect(ops.locator("#stages tbody tr").first).to_be_visible()
    ops.context.set_offline(False)
    expect(problem).to_be_hidden()
    expect(badge).to_contain_text("ready")
    expect(badge).to_have_class("mark good")


def test_the_parser_reads_what_prometheus_own_client_reads(ops, ports):
    text = httpx2.get(ports[1] + "/metrics", timeout=120).text + (
        '# HELP x a "comment" {with="braces"}\n'
        'odd{a="\\\\ \\" \\n {}, = é",b=""} 1e-05 1395066363000\n'
        "plain +Inf\nother -Inf\nnone NaN\n"
    )
    expected = [
        [one.name, one.labels, one.value]
        for family in text_string_to_metric_families(text)
        for one in family.samples
    ]
    found = [
        [name, labels, float(value.replace("Infinity", "inf"))]
        for name, labels, value in ops.evaluate(IMPORTED, text)
    ]

    def by_series(sample: list[Any]) -> str:
        return json.dumps(sample[:2], sort_keys=True)

    expected.sort(key=by_series)
    found.sort(key=by_series)
    assert repr(found) == repr(expected)


def test_quantiles_are_those_of_prometheus(ops, tmp_path):
    cases = [
        [("0.1", 3), ("0.5", 3), ("2", 10), ("+Inf", 12)],
        [("-2", 4), ("-1", 9), ("0", 9), ("1", 20), ("+Inf", 20)],
        [("1", 0), ("2", 1), ("+Inf", 1)],
    ]
    asked = [0.05, 0.5, 0.75, 0.9, 0.99]
    for buckets in cases:
        read = [[edge.replace("+Inf", "Infinity"), count] for edge, count in buckets]
        found = ops.evaluate(QUANTILES, [read, asked])
        series = [{"series": f'x_bucket{{le="{edge}"}}', "values": f"{n}"} for edge, n in buckets]
        tests = [
            {
                "expr": f"abs(histogram_quantile({q}, x_bucket) - {value}) < bool 1e-9",
                "eval_time": "0m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for q, value in zip(asked, found, strict=True)
        ]
        done = evaluate(tmp_path, series, tests)
        assert done.returncode == 0, done.stdout + done.stderr


def exposition(started: float, rewards: dict[str, float], scores: dict[str, float]) -> str:
    """``rewards`` by revision, ``scores`` by edge."""
    lines = [f"process_start_time_seconds {started}"]
    lines += [f'plaudit_rewards_total{{model="m",revision="{r}"}} {n}' for r, n in rewards.items()]
    lines += [f'plaudit_score_bucket{{le="{le}",model="m"}} {n}' for le, n in scores.items()]
    return "\n".join(lines)


def test_a_swap_leaves_the_rates_and_shows_the_scores_of_the_new_model(ops):
    """The second one drops the rewards of the first revision."""
    before = exposition(1, {"r1": 1000, "r2": 50}, {"0.5": 30, "1.0": 40, "+Inf": 50})
    after = exposition(1, {"r2": 80, "r3": 10}, {"0.5": 2, "2.0": 7, "+Inf": 60})
    found = ops.evaluate(SPAN, [before, after])
    assert found["rate"] == (30 + 10) / 2
    assert found["scores"] == [["0.5", 2], ["2", 7], ["Infinity", 60]]
    fewer = exposition(1, {"r1": 10, "r2": 50}, {"+Inf": 50})
    assert ops.evaluate(SPAN, [fewer, after])["rate"] == (30 + 10) / 2


@pytest.mark.parametrize("count", [30, 150])
def test_after_a_restart_everything_counts_from_zero(ops, count):
    before = exposition(1, {"r": 100}, {"0.5": 40, "+Inf": 100})
    after = exposition(2, {"r": count}, {"0.5": count / 3, "+Inf": count})
    found = ops.evaluate(SPAN, [before, after])
    assert found["rate"] == count / 2
    assert found["scores"] == [["0.5", count / 3], ["Infinity", count]]
    same = exposition(1, {"r": 100 + count}, {"0.5": 40, "+Inf": 100 + count})
    found = ops.evaluate(SPAN, [before, same])
    assert found["rate"] == count / 2
    assert found["scores"] == [["0.5", 0], ["Infinity", count]]


def test_axe_finds_nothing(open_page, violations, ports):
    page = open_page(ports[1] + "/ops")
    expect(page.locator("#stages tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    assert violations(page) == []


def test_nothing_is_cut_off_on_a_narrow_screen(open_page, ports):
    page = open_page(ports[1] + "/ops", viewport={"width": 360, "height": 700})
    expect(page.locator("#stages tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_main_port_has_no_such_page(url, keyed_url):
    for path in ("/ops", "/ops/models", "/ui/ops.js"):
        assert httpx2.get(url + path, timeout=120).status_code == 404, path
        assert httpx2.get(keyed_url + path, timeout=120).status_code in (401, 404), path
