"""What a researcher asks: is the reward model my bottleneck?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable
from grafana_foundation_sdk.models.dashboard import (
    DashboardRangeMapOptions,
    RangeMap,
    ValueMapping,
    ValueMappingResult,
)

from service.monitoring.boards.board import board, variable
from service.monitoring.boards.levels import above
from service.monitoring.boards.links import jump
from service.monitoring.boards.panels import NO_TRAFFIC, Panel, graph, stat_of
from service.monitoring.boards.promql import (
    OF_MODEL,
    SCORING,
    Query,
    mean,
    quantile,
    rate,
    share,
    total,
)

OF_CLIENT = 'client=~"$client"'
ITEMS, WAITED = "plaudit_client_items_total", "plaudit_client_wait_seconds_total"
REQUESTS, DURATION = "plaudit_http_requests_total", "plaudit_http_request_duration_seconds"
RETRIES = "plaudit_request_retries_total"
STAGE = "plaudit_stage_duration_seconds"
BUSY = "plaudit_worker_busy_seconds_total"


def trainer() -> Dashboard:
    rows = [
        ("Is the reward model my bottleneck?", verdicts()),
        ("By client, the name of its API key", clients()),
        ("What comes back", answers()),
        ("What does not", refusals()),
    ]
    text = "Is the reward model my training's bottleneck, and what do its answers cost me?"
    return board("trainer", text, rows, clients_variable())


def clients_variable() -> QueryVariable:
    return variable("client", "Client", f'label_values({ITEMS}{{job=~"$job"}}, client)')


def verdicts() -> list[Panel]:
    waited, computed = (mean(STAGE, f'stage="{name}"') for name in ("queue", "compute"))
    return [
        stat_of(
            "Verdict",
            "Share of time in which the engines computed, in words: an idle engine waits for your "
            "trainer, a full one makes it wait",
            "percentunit",
            Query(f"avg ({rate(BUSY)})"),
            above(0.7, 0.9),
        )
        .mappings(verdict_words())
        .data_links([jump("capacity", "How much room is left?")]),
        stat_of(
            "Queue's part of the wait",
            "Mean wait of a sequence for its forward, as a share of that and the mean duration of "
            "a forward; above a half, more replicas would make your steps shorter",
            "percentunit",
            Query(f"{waited} / ({waited} + {computed})"),
            above(0.3, 0.5),
        ).data_links([jump("latency", "Which stage?")]),
        stat_of(
            "Retried",
            "Share of requests that said they are a retry: the first answer came too late or not "
            "at all",
            "percentunit",
            Query(share(total(RETRIES), total(REQUESTS, SCORING))),
            above(0.01, 0.1),
        ),
    ]


def verdict_words() -> list[ValueMapping]:
    words = [
        (0.0, 0.7, "No: it waits for you", "green"),
        (0.7, 0.9, "Nearly", "orange"),
        (0.9, 1000.0, "Yes: you wait for it", "red"),
    ]
    return [
        *(
            RangeMap(DashboardRangeMapOptions(low, high, ValueMappingResult(text, color)))
            for low, high, text, color in words
        ),
        NO_TRAFFIC,
    ]


def clients() -> list[Panel]:
    items = total(ITEMS, OF_CLIENT, by="client")
    return [
        graph(
            "Items",
            "Items a second that each client sends",
            "cps",
            Query(items, "{{client}}"),
        ),
        graph(
            "Wait for each item",
            "Mean time that an item of the client waits for a batch. Equal shares among clients "
            "is what the fair queue gives; a large caller waits longer than a small one",
            "s",
            Query(f"{total(WAITED, OF_CLIENT, by='client')} / {items}", "{{client}}"),
        ),
        graph(
            "Part of all items",
            "Who uses the reward model",
            "percentunit",
            Query(f"{items} / scalar({total(ITEMS)})", "{{client}}"),
        ).max(1),
    ]


def answers() -> list[Panel]:
    return [
        graph(
            "Request duration",
            "How long scoring requests take, from first byte to last",
            "s",
            *(Query(quantile(q, DURATION, SCORING), f"p{100 * q:.0f}") for q in (0.5, 0.95, 0.99)),
        ),
        graph(
            "Rewards by model",
            "Rewards given a second, cached ones included",
            "cps",
            Query(total("plaudit_rewards_total", OF_MODEL, by="model"), "{{model}}"),
        ),
        graph(
            "Rewards filled in",
            "Numbers given in the place of an item's error, by policy and type: your trainer "
            "learns from these",
            "cps",
            Query(
                total("plaudit_compat_filled_total", by="peer, policy, type"),
                "{{peer}} {{policy}} {{type}}",
            ),
        ),
    ]


def refusals() -> list[Panel]:
    return [
        graph(
            "Retries",
            "Requests a second that said they are a retry",
            "reqps",
            Query(total(RETRIES), "retries"),
        ),
        graph(
            "Too late or no room",
            "Requests whose deadline passed, and requests that found no room before it",
            "reqps",
            Query(total("plaudit_deadline_expired_total", by="where"), "late: {{where}}"),
            Query(total("plaudit_admission_rejections_total", by="reason"), "no room: {{reason}}"),
        ),
        graph(
            "Answers by status",
            "Scoring requests by status",
            "reqps",
            Query(total(REQUESTS, SCORING, by="code"), "{{code}}"),
        ),
    ]
