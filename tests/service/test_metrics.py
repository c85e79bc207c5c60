"""The metrics' contract: their names, what feeds them, how many series there can be."""

import asyncio
import time

import httpx2
import pytest
from promtool import promtool

from plaudit.joint_model import JointModel

NAMES = {
    "plaudit_audit_failures_total", "plaudit_audit_left_out_total",
    "plaudit_admission_rejections_total", "plaudit_batch_fill_ratio",
    "plaudit_batch_invariance_max_abs_diff", "plaudit_batch_items", "plaudit_batch_tokens",
    "plaudit_build_info", "plaudit_cache_breaker_state", "plaudit_cache_lookups_total",
    "plaudit_cache_op_duration_seconds", "plaudit_cache_saved_seconds_total",
    "plaudit_cache_stores_total",
    "plaudit_canary_age_seconds", "plaudit_canary_score_drift", "plaudit_canary_score_tolerance",
    "plaudit_client_items_total", "plaudit_client_wait_seconds_total",
    "plaudit_compat_filled_total", "plaudit_deadline_expired_total",
    "plaudit_device_memory_bytes", "plaudit_device_utilization_ratio",
    "plaudit_ensemble_degraded_total", "plaudit_ensemble_disagree_ratio",
    "plaudit_ensemble_pairwise_corr", "plaudit_ensemble_std", "plaudit_errors_total",
    "plaudit_event_loop_lag_seconds", "plaudit_event_loop_tasks",
    "plaudit_http_request_duration_seconds", "plaudit_http_requests_total",
    "plaudit_log_lines_lost_total", "plaudit_member_up", "plaudit_model_info",
    "plaudit_quarantined_items", "plaudit_quarantine_refusals_total", "plaudit_batch_token_budget",
    "plaudit_nonfinite_total", "plaudit_padding_waste_ratio", "plaudit_queue_items",
    "plaudit_queue_oldest_age_seconds", "plaudit_queue_tokens", "plaudit_ready",
    "plaudit_quota_rejections_total", "plaudit_quota_wait_seconds_total",
    "plaudit_request_retries_total", "plaudit_response_length_score_corr",
    "plaudit_rewards_total", "plaudit_score", "plaudit_score_mean", "plaudit_score_psi",
    "plaudit_score_reference_mean", "plaudit_score_reference_std",
    "plaudit_score_saturation_ratio", "plaudit_score_std", "plaudit_sequences_total",
    "plaudit_singleflight_joined_total", "plaudit_spans_total", "plaudit_stage_duration_seconds",
    "plaudit_startup_phase_seconds", "plaudit_swaps_total", "plaudit_tokens_total",
    "plaudit_truncated_total",
    "plaudit_worker_busy_ratio", "plaudit_worker_busy_seconds_total",
}  # fmt: skip
STAGES = ("decode", "tokenize", "cache_get", "admit", "queue", "compute", "cache_set", "encode")
IDS = {"items": [{"token_ids": [5, 6, 7]}]}


@pytest.fixture
def value(metrics):
    """The value of a series, None where it is absent."""
    return lambda name, **labels: metrics.registry.get_sample_value(name, labels)


async def test_metric_names_are_the_contract(metrics):
    found = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("plaudit_")
    }
    assert found == NAMES


async def test_a_score_leaves_its_traces_in_metrics(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json=IDS)
        await client.post("/score", json={"items": 5})
    labels = {"route": "/score", "method": "POST", "code": "200"}
    assert value("plaudit_http_requests_total", **labels) == 1
    assert value("plaudit_errors_total", route="/score", type="malformed") == 1
    assert value("plaudit_tokens_total", kind="computed") == 3
    assert value("plaudit_batch_items_count") == 1
    for stage in STAGES:
        assert value("plaudit_stage_duration_seconds_count", stage=stage) >= 1
    assert value("plaudit_queue_tokens") == value("plaudit_queue_items") == 0
    assert value("plaudit_queue_oldest_age_seconds") == 0
    assert value("plaudit_score_bucket", model="m0", le="+Inf") == 1
    assert value("plaudit_worker_busy_seconds_total") > 0
    assert 0 < value("plaudit_worker_busy_ratio") <= 1


async def test_stages_add_up_to_the_request_while_callers_are_held(
    serve, tiny_checkpoint, value, monkeypatch
):
    compute = JointModel.compute

    def slow(self, asked):
        time.sleep(0.05)  # what no stage counts is little beside it, however busy the machine
        return compute(self, asked)

    async with serve(models=[tiny_checkpoint], max_queued_tokens=1, cache_megabytes=0) as client:
        monkeypatch.setattr(JointModel, "compute", slow)
        bodies = [{"items": [{"token_ids": [n] * 200}]} for n in range(5, 17)]
        answers = await asyncio.gather(*(client.post("/score", json=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    spent = {s: value("plaudit_stage_duration_seconds_sum", stage=s) for s in STAGES}
    whole = value("plaudit_http_request_duration_seconds_sum", route="/score", code_class="2xx")
    assert spent["admit"] > 0.5 * whole
    assert 0.7 * whole < sum(spent.values()) <= whole


async def test_the_start_says_how_long_its_phases_took(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint], deterministic=True):
        for phase in ("read", "load", "probes", "invariance"):
            assert value("plaudit_startup_phase_seconds", phase=phase) > 0


async def test_without_a_gpu_its_metrics_are_absent_and_not_zero(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint]):
        assert value("plaudit_device_memory_bytes", kind="used") is None
        assert value("plaudit_device_utilization_ratio") is None


async def test_items_and_waits_are_counted_under_the_name_of_the_key(serve, tiny_checkpoint, value):
    keys = "ppo:right,ppo:newer,other"
    async with serve(models=[tiny_checkpoint], api_keys=keys) as client:
        for key, ids in (("right", 5), ("newer", 6), ("ppo:newer", 7), ("other", 8)):
            body = {"items": [{"token_ids": [ids]}, {"token_ids": [ids, 9]}]}
            headers = {"Authorization": f"Bearer {key}"}
            assert (await client.post("/score", json=body, headers=headers)).status_code == 200
        assert (await client.post("/score", json=IDS)).status_code == 401
    assert value("plaudit_client_items_total", client="ppo") == 6
    assert value("plaudit_client_items_total", client="key-3") == 2
    assert value("plaudit_client_wait_seconds_total", client="ppo") > 0
    assert value("plaudit_client_items_total", client="anonymous") is None


async def test_a_peers_items_are_counted_for_its_client_too(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/get_reward", json={"query": ["a", "b", "c"]})
    assert value("plaudit_client_items_total", client="anonymous") == 3


async def test_requests_that_say_they_are_a_retry_are_counted(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint]) as client:
        for header, count in (
            ("x-plaudit-retry-count", "2"),
            ("x-stainless-retry-count", "1"),
            ("x-stainless-retry-count", "0"),
            ("x-plaudit-retry-count", "many"),
        ):
            await client.post("/score", json=IDS, headers={header: count})
    assert value("plaudit_request_retries_total") == 2


async def test_rewards_are_counted_by_the_loaded_revision(serve, tmp_path, members, value):
    path = tmp_path / "both.yaml"
    path.write_text(
        f"objectives:\n  a: {{member: {members[0]}, weight: 1}}\n"
        f"  b: {{member: {members[1]}, weight: 2}}\n"
    )
    async with serve(models=[path]) as client:
        listed = {m["name"]: m["revision"] for m in (await client.get("/models")).json()["models"]}
        for weights in ({"a": 1.0, "b": 0.5}, {"a": 0.25, "b": 3.0}):
            body = {"model": "both", "weights": weights, "items": IDS["items"] * 2}
            assert (await client.post("/score", json=body)).status_code == 200
        await client.post("/score", json={"model": "m0", "items": [{"text": ""}, *IDS["items"]]})
    assert value("plaudit_rewards_total", model="both", revision=listed["both"]) == 4
    assert value("plaudit_rewards_total", model="m0", revision=listed["m0"]) == 1
    assert value("plaudit_sequences_total", model="m0") == 5


async def test_what_the_cache_saves_is_told_in_seconds_of_compute(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json=IDS)
        assert value("plaudit_cache_saved_seconds_total") == 0
        spent = value("plaudit_worker_busy_seconds_total")
        for _ in range(4):
            await client.post("/score", json=IDS)
    assert value("plaudit_cache_saved_seconds_total") == pytest.approx(4 * spent)


async def test_work_that_several_wait_for_is_one_score(serve, tiny_checkpoint, value):
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json={"items": IDS["items"] * 5})
    assert value("plaudit_score_bucket", model="m0", le="+Inf") == 1
    assert value("plaudit_sequences_total", model="m0") == 5


def test_promtool_finds_nothing_to_say_of_a_scrape(listen, tiny_checkpoint):
    with listen(models=[tiny_checkpoint]) as url:
        httpx2.post(f"{url}/score", json=IDS)
        scrape = httpx2.get(f"{url}/metrics").text
    done = promtool("check", "metrics", given=scrape)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
