"""``plaudit top``: quantiles as Prometheus has them, counters that start anew, a real server."""

import asyncio
import math
import os
import pty
import random
import signal
import subprocess
import sys
from functools import partial

import httpx2
import pytest
from promtool import evaluate
from rich.console import Console

from plaudit import cli
from service.top import figures, view
from service.top.histogram_quantile import histogram_quantile
from service.top.scrape import Down, Scrape, TopError, address, parse, scrape
from service.top.window import Window, between, by, together, total

INF = math.inf


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        # 10 values up to 1, 30 up to 2: rank 20 is a third of the way from 1 to 2.
        ({1.0: 10, 2.0: 40, INF: 40}, 0.5, 1 + 10 / 30),
        ({1.0: 10, 2.0: 40, INF: 40}, 0.1, 0.4),  # below the first bound: from zero
        ({1.0: 10, 2.0: 20, INF: 40}, 0.99, 2.0),  # above the last finite bound: it
        ({-1.0: 10, 0.0: 20, INF: 20}, 0.2, -1.0),  # the first bound, if that is not above zero
        ({-1.0: 10, 0.0: 20, INF: 20}, 0.75, -0.5),
    ],
)
def test_a_quantile_is_worked_out_by_hand(buckets, q, expected):
    assert histogram_quantile(q, buckets) == pytest.approx(expected)


@pytest.mark.parametrize("buckets", [{}, {INF: 3.0}, {1.0: 0.0, INF: 0.0}, {1.0: 2.0}])
def test_no_observation_has_no_quantile(buckets):
    assert math.isnan(histogram_quantile(0.5, buckets))


def test_quantiles_are_those_of_prometheus_itself(tmp_path):
    draw = random.Random(4)
    cases, series = [], []
    for case in range(60):
        bounds = sorted(draw.uniform(-3, 9) for _ in range(draw.randint(1, 8)))
        counts = [draw.choice([0, 0, 1, 7, 500]) for _ in bounds] + [draw.randint(0, 3)]
        cumulative = [sum(counts[: i + 1]) for i in range(len(counts))]
        buckets = dict(zip([*bounds, INF], cumulative, strict=True))
        series += [
            {"series": f'x_bucket{{case="{case}",le="{text(bound)}"}}', "values": str(count)}
            for bound, count in buckets.items()
        ]
        q = draw.choice([0.5, 0.9, 0.99, 0.37])
        cases.append((case, q, histogram_quantile(q, buckets)))
    tests = [
        {
            "expr": f'histogram_quantile({q}, x_bucket{{case="{case}"}})',
            "eval_time": "0m",
            "exp_samples": [{"labels": f'{{case="{case}"}}', "value": value}],
        }
        for case, q, value in cases
        if not math.isnan(value)  # promtool finds no NaN equal to another
    ]
    done = evaluate(tmp_path, series, tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(tests) > 40
    tests[0]["exp_samples"][0]["value"] = 1234.5  # promtool does look
    assert evaluate(tmp_path, series, tests).returncode != 0


def text(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound)


def exposition(started: float | None, requests: dict[str, float], queue: float = 0.0) -> str:
    lines = [
        "# TYPE plaudit_queue_items gauge", f"plaudit_queue_items {queue}",
        "# TYPE plaudit_http_requests_total counter",
    ]  # fmt: skip
    if started is not None:
        lines[:0] = [
            "# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {started}",
        ]  # fmt: skip
    lines += [
        f'plaudit_http_requests_total{{route="{route}",method="POST",code="200"}} {count}'
        for route, count in requests.items()
    ]
    return "\n".join(lines) + "\n"


def window(first: str, second: str, seconds: float = 2.0) -> Window:
    return between(parse(first, 10.0), parse(second, 10.0 + seconds))


def test_a_rate_is_the_increase_over_the_time_between_and_leaves_probes_out():
    found = window(
        exposition(1, {"/score": 100, "/readyz": 5}),
        exposition(1, {"/score": 130, "/readyz": 9, "/ensemble_score": 4}, queue=3),
    )
    assert figures.server(found).requests == (30 + 4) / 2
    assert figures.server(found).queued_items == 3
    assert not found.restarted


@pytest.mark.parametrize(
    ("starts", "before", "after", "expected"),
    [
        pytest.param((1, 2), 100, 30, 15, id="less than before"),
        pytest.param((1, 2), 100, 150, 75, id="more than before already, by another process"),
        pytest.param((None, None), 100, 30, 15, id="a process that says no start"),
    ],
)
def test_after_a_restart_everything_counts_from_zero(starts, before, after, expected):
    found = window(
        exposition(starts[0], {"/score": before}), exposition(starts[1], {"/score": after})
    )
    assert figures.server(found).requests == expected
    assert found.restarted
    assert "restarted" in rendered({"http://a/metrics": found})


@pytest.mark.parametrize("start", [1, None])
def test_a_series_that_is_dropped_leaves_the_rates_of_the_others(start):
    found = window(
        exposition(start, {"/score": 100, "/slime": 7}), exposition(start, {"/score": 130})
    )
    assert figures.server(found).requests == 15
    assert not found.restarted


def test_servers_together_add_rates_and_share_quantiles():
    bucket = "# TYPE plaudit_http_request_duration_seconds histogram\n"

    def histogram(*counts):
        return bucket + "".join(
            f'plaudit_http_request_duration_seconds_bucket{{le="{le}"}} {count}\n'
            for le, count in zip(("1.0", "2.0", "+Inf"), counts, strict=True)
        )

    one = window(histogram(0, 0, 0), histogram(20, 20, 20), seconds=2)  # 10 a second below 1
    other = window(histogram(0, 0, 0), histogram(0, 120, 120), seconds=4)  # 30 a second above
    whole = together([one, other])
    assert whole.quantile(0.5, figures.REQUESTS) == pytest.approx(1 + 10 / 30)
    assert one.quantile(0.5, figures.REQUESTS) == pytest.approx(0.5)


def test_quick_probes_do_not_make_the_latency_look_better():
    def answered(probes: int, scores: int) -> str:
        name = "plaudit_http_request_duration_seconds"
        quick = {"/readyz": probes, "/v1/models": probes, "/score": 0, "/slime": 0}
        slow = quick | {"/score": scores, "/slime": scores}
        return f"# TYPE {name} histogram\n" + "".join(
            f'{name}_bucket{{route="{route}",status="2xx",le="{le}"}} {counts[route]}\n'
            for route in quick
            for le, counts in (("1.0", quick), ("2.0", slow), ("+Inf", slow))
        )

    found = window(answered(probes=0, scores=0), answered(probes=900, scores=5))
    assert figures.server(found).p50 == pytest.approx(1.5)  # the middle of 1 to 2
    assert figures.server(found).p99 == pytest.approx(1.99)


def rendered(seen) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(view.tables(seen))
    return capture.get()


def test_drift_and_moments_are_shown_where_the_server_has_them():
    text = (
        '# TYPE plaudit_model_info gauge\nplaudit_model_info{model="warm",revision="r"} 1\n'
        '# TYPE plaudit_score_mean gauge\nplaudit_score_mean{model="warm"} 1.25\n'
        '# TYPE plaudit_score_std gauge\nplaudit_score_std{model="warm"} 0.5\n'
        '# TYPE plaudit_score_psi gauge\nplaudit_score_psi{model="warm",window="24h"} 0.01\n'
        'plaudit_score_psi{model="warm",window="15m"} 0.31\n'
    )
    found = window(text, text)
    out = rendered({"http://a:8000/metrics": found})
    assert all(part in out for part in ("warm", "1.250", "0.500", "0.310 act"))
    assert figures.models(found)[0].psi == 0.31


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/metrics"),
        ("http://h:1/", "http://h:1/metrics"),
        ("https://h/plaudit/metrics", "https://h/plaudit/metrics"),
    ],
)
def test_a_server_is_named_with_or_without_scheme_and_path(given, url):
    assert address(given) == url


@pytest.mark.parametrize("given", ["ftp://h", "http://", "http://[::1"])
def test_what_is_no_server_is_refused(given):
    with pytest.raises(TopError, match="http://HOST:PORT"):
        address(given)


def look(url: str) -> Scrape | Down:
    async def one():
        async with httpx2.AsyncClient() as http:
            return await scrape(http, address(url))

    return asyncio.run(one())


def test_what_a_real_server_did_is_what_is_shown(listen, tiny_checkpoint):
    items = [{"prompt": f"Question {i}", "response": "Answer"} for i in range(5)]
    with listen(models=[tiny_checkpoint]) as url:
        httpx2.post(f"{url}/score", json={"items": items[:1]}, timeout=60)
        before = look(url)
        for _ in range(2):
            assert httpx2.post(f"{url}/score", json={"items": items}, timeout=60).is_success
        assert httpx2.post(f"{url}/score", json={"model": "no", "items": items}).status_code == 404
        after = look(url)
        other = look(f"{url}/docs")
    found = between(before, after)
    shown = figures.server(found)
    assert shown.requests * found.seconds == pytest.approx(3)
    assert shown.items * found.seconds == pytest.approx(10)
    assert shown.errors * found.seconds == pytest.approx(1)
    assert list(shown.error_types) == ["unknown-model"]
    assert shown.hits == pytest.approx(6 / 10)  # the first of all, and the whole second request
    assert 0 < shown.p50 <= shown.p99
    passed = {one.name: one.rate * found.seconds for one in figures.stages(found)}
    assert list(passed)[:2] == ["decode", "tokenize"]
    assert passed["compute"] == pytest.approx(total(found.increases, "plaudit_batch_items_count"))
    [model] = figures.models(found)
    assert (model.name, round(model.scores * found.seconds)) == ("m0", 4)
    assert not math.isnan(model.median)
    assert isinstance(other, Down)
    assert by(found.gauges, "plaudit_model_info", "model") == {"m0": 1.0}


async def test_each_swap_leaves_the_rates_and_shows_the_scores_of_the_new_model(ports, members):
    async with ports(members[0]) as both, httpx2.AsyncClient() as http:
        url = address(f"http://127.0.0.1:{both.settings.admin_port}")

        async def ask(count):
            items = [{"prompt": "Why?", "response": f"Because of {i}."} for i in range(count)]
            answer = await both.client.post("/score", json={"items": items}, timeout=120)
            return [one["score"] for one in answer.raise_for_status().json()["items"]]

        # The second swap drops the rewards of the first revision.
        for name in ("new", "newer"):
            for count in (40, 20, 20):
                await ask(count)
            before = await scrape(http, url)
            body = {"model": "m0", "checkpoint": name}
            key = {"Authorization": "Bearer operator"}
            swapped = await both.ops.post("/admin/swap", json=body, headers=key, timeout=120)
            assert swapped.is_success
            scores = await ask(5)
            found = between(before, await scrape(http, url))
            shown = figures.server(found)
            assert not found.restarted
            assert shown.requests * found.seconds == pytest.approx(1)
            assert shown.items * found.seconds == pytest.approx(5)
            [model] = figures.models(found)
            assert model.scores * found.seconds == pytest.approx(5)
            buckets = by(found.increases, "plaudit_score_bucket", "le", model="m0")
            assert buckets == {
                edge: sum(score <= float(edge) for score in scores) for edge in buckets
            }


def test_once_prints_a_plain_table_and_tells_who_is_down(listen, tiny_checkpoint, capsys):
    with listen(models=[tiny_checkpoint]) as url:
        assert cli.main(["top", "--once", "--interval", "0.1", f"{url},127.0.0.1:1"]) == 0
    out = capsys.readouterr().out
    assert "down: ConnectError" in out
    assert "m0" in out
    assert "\x1b" not in out
    assert cli.main(["top", "--once", "--interval", "0.1", "http://u:canary@127.0.0.1:1"]) == 1
    assert "canary" not in capsys.readouterr().out


@pytest.mark.parametrize("key", [None, "scores"])
def test_a_key_that_is_missing_or_opens_too_little_is_said_with_the_one_that_helps(
    key, listen, tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    (tmp_path / "keys").write_text("a:scores scope=score\nb:looks scope=metrics\n")
    with listen(models=[tiny_checkpoint], api_keys_file=tmp_path / "keys") as url:
        for sent, status in ((key, 1), ("looks", 0)):
            monkeypatch.delenv("PLAUDIT_CLIENT_API_KEY", raising=False)
            if sent is not None:
                monkeypatch.setenv("PLAUDIT_CLIENT_API_KEY", sent)
            assert cli.main(["top", "--once", "--interval", "0.1", url]) == status
            said = capsys.readouterr().out
            helps = "export PLAUDIT_CLIENT_API_KEY=…, a key with the scope metrics"
            assert (helps in said) == (status == 1)
            assert "--admin-port" not in said
    # Where a server has no metrics, its admin port has them.
    with listen(models=[tiny_checkpoint], admin_port=9090) as url:
        assert cli.main(["top", "--once", "--interval", "0.1", url]) == 1
    assert "see --admin-port" in capsys.readouterr().out


COMMAND = [sys.executable, "-m", "plaudit.cli", "top", "--interval", "0.1"]
# A test run in the background passes on that it ignores interrupts.
interruptible = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


def test_without_a_terminal_it_prints_lines_until_it_is_interrupted(listen, tiny_checkpoint):
    with listen(models=[tiny_checkpoint]) as url:
        process = subprocess.Popen(
            [*COMMAND, url], stdout=subprocess.PIPE, text=True, preexec_fn=interruptible
        )
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.stdout.close()
        assert process.wait() == 0
    assert all(line.startswith("server=127.0.0.1:") and " up=1 req/s=" in line for line in lines)


def test_on_a_terminal_it_is_drawn_anew_until_it_is_interrupted(listen, tiny_checkpoint):
    with listen(models=[tiny_checkpoint]) as url:
        ours, theirs = pty.openpty()
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "160", "LINES": "40"}
        process = subprocess.Popen(
            [*COMMAND, url], stdout=theirs, stderr=theirs, env=environment, preexec_fn=interruptible
        )
        os.close(theirs)
        seen = b""
        while seen.count(b"items/s") < 2:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        os.close(ours)
    assert b"\x1b[?1049h" in seen  # the other screen, which leaves the scrollback alone
