"""Where the time of a score goes: queue, tokenising, compute or cache."""

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders.dashboard import Dashboard

from service.monitoring.boards.board import board
from service.monitoring.boards.levels import Levels, above
from service.monitoring.boards.links import jump
from service.monitoring.boards.panels import Panel, graph, heat, stacked, stat_of
from service.monitoring.boards.promql import (
    SCORING,
    Query,
    buckets,
    computed,
    mean,
    quantile,
    series,
    total,
)

STAGE = "plaudit_stage_duration_seconds"
DURATION = "plaudit_http_request_duration_seconds"
QUEUED, COMPUTED = 'stage="queue"', 'stage="compute"'


def latency() -> Dashboard:
    rows = [
        ("Which stage is it? The reddest; click it for what to do", verdicts()),
        ("Stages", stages()),
        ("Distributions", distributions()),
        ("Queue", queue()),
        ("Batches", batches()),
        ("Work", work()),
    ]
    return board("latency", "Why is it slow: queue, tokenising, compute or cache?", rows)


def verdicts() -> list[Panel]:
    return [
        verdict(
            "Admission",
            "Held before a house that is full: more is sent than is computed",
            'stage="admit"',
            above(0.1, 0.5),
        ).data_links([jump("capacity", "Is the engine busy?")]),
        verdict(
            "Queue",
            "Waiting for a batch: too few replicas, or one caller's burst",
            QUEUED,
            above(0.1, 0.5),
        ).data_links([jump("capacity", "Is the engine busy?")]),
        verdict(
            "Tokenise",
            "Making tokens of text, in the event loop's process: very long texts, or a starved CPU",
            'stage="tokenize"',
            above(0.05, 0.25),
        ).data_links([jump("capacity", "Is the event loop late?")]),
        verdict(
            "Compute",
            "One forward of a batch: longer sequences, larger batches or a slower device",
            COMPUTED,
            above(0.25, 1),
        ).data_links([jump("capacity", "What does the device do?")]),
        verdict(
            "Cache",
            "Asking and filling the caches: Redis is far, slow or timing out",
            'stage=~"cache_.*"',
            above(0.005, 0.05),
        ).data_links([jump("cache", "Is Redis well?")]),
        stat_of(
            "Request, p99",
            "What the stages are parts of: the slowest hundredth of scoring requests",
            "s",
            Query(quantile(0.99, DURATION, SCORING)),
        ),
    ]


def verdict(stage: str, text: str, matcher: str, levels: Levels) -> stat.Panel:
    query = Query(quantile(0.99, STAGE, matcher))
    return stat_of(f"{stage}, p99", f"{text}. The slowest hundredth", "s", query, levels)


def stages() -> list[Panel]:
    return [
        stacked(
            "Stage breakdown, mean",
            "Mean time in each stage of a score. A wide queue band asks for replicas, a wide "
            "compute band for a faster engine. A stage counts only when it ran, so cache hits do "
            "not thin the compute band",
            "s",
            Query(mean(STAGE, by="stage"), "{{stage}}"),
        ),
        graph(
            "Stage duration, p99",
            "The slowest hundredth of each stage; percentiles do not add up",
            "s",
            Query(quantile(0.99, STAGE, by="stage"), "{{stage}}"),
        ),
        graph(
            "Queue against compute",
            "Mean wait for a batch over mean time of a batch. About 1 is a full pipeline; far "
            "above, the queue is what callers feel",
            "short",
            Query(f"{mean(STAGE, QUEUED)} / {mean(STAGE, COMPUTED)}", "queue / compute"),
            levels=above(2, 10),
        ),
    ]


def distributions() -> list[Panel]:
    return [
        heat(
            "Requests",
            "How long scoring requests take; two bands are two kinds of request",
            "s",
            buckets(DURATION, SCORING),
        ),
        heat("Queue", "How long sequences wait for a batch", "s", buckets(STAGE, QUEUED)),
        heat("Compute", "How long forwards take", "s", buckets(STAGE, COMPUTED)),
    ]


def queue() -> list[Panel]:
    rejections, expired = "plaudit_admission_rejections_total", "plaudit_deadline_expired_total"
    return [
        graph(
            "Queued tokens",
            "Tokens admitted and not yet answered; the autoscaler acts on this",
            "short",
            Query(series("plaudit_queue_tokens"), "{{instance}}"),
        ),
        graph(
            "Oldest item in the queue",
            "Age of the oldest item that waits for a forward, 0 when none waits. Growing while the "
            "engine is busy means too little capacity, growing while it is idle a hang",
            "s",
            Query(series("plaudit_queue_oldest_age_seconds"), "{{instance}}"),
            levels=above(1, 5),
        ),
        graph(
            "Refused and expired",
            "Requests refused for want of room, and those whose deadline passed before they were "
            "computed",
            "reqps",
            Query(total(rejections, by="reason"), "refused: {{reason}}"),
            Query(total(expired, by="where"), "expired: {{where}}"),
        ),
    ]


def batches() -> list[Panel]:
    return [
        graph(
            "Tokens per batch",
            "Tokens of one forward",
            "short",
            Query(mean("plaudit_batch_tokens"), "mean"),
            Query(quantile(0.99, "plaudit_batch_tokens"), "p99"),
        ),
        graph(
            "Batch fill",
            "Mean share of the token budget that a batch used. Low with a queue means items that "
            "do not fit together",
            "percentunit",
            Query(mean("plaudit_batch_fill_ratio"), "fill"),
        ).max(1),
        graph(
            "Padding waste",
            "Mean share of computed tokens that were padding; the packed forward has none",
            "percentunit",
            Query(mean("plaudit_padding_waste_ratio"), "waste"),
        ).max(1),
    ]


def work() -> list[Panel]:
    return [
        graph(
            "Sequences per batch",
            "Sequences of one forward, mean",
            "short",
            Query(mean("plaudit_batch_items"), "mean"),
        ),
        graph(
            "Computed by model",
            "Scores computed a second, by model: whose work fills the batches",
            "cps",
            Query(computed(by="model"), "{{model}}"),
        ),
    ]
