"""Are the rewards still what the reward model was trained to give?"""

from grafana_foundation_sdk.builders import dashboard

from service.monitoring.boards.board import board
from service.monitoring.boards.levels import Levels, above, within
from service.monitoring.boards.panels import DATASOURCE, Panel, graph, heat, stat_of
from service.monitoring.boards.promql import (
    OF_MODEL,
    Query,
    buckets,
    quantile,
    series,
    share,
    total,
)

CANARY, TOLERANCE = "plaudit_canary_score_drift", "plaudit_canary_score_tolerance"
PSI = "plaudit_score_psi"
INFO = "plaudit_model_info"
WINDOW_SHORT = 'window="15m"'


def reward_health() -> dashboard.Dashboard:
    rows = [
        ("At a glance", glance()),
        ("Scores", scores()),
        ("Against the reference of reward.json", reference()),
        ("Ensemble", ensemble()),
        ("Canaries and members", canaries()),
    ]
    text = "Are the rewards still what the model was trained to give?"
    return board("reward-health", text, rows).annotation(deploys())


def deploys() -> dashboard.AnnotationQuery:
    loaded = series(INFO, OF_MODEL)
    return (
        dashboard.AnnotationQuery()
        .name("New revision")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(f"{loaded} unless {loaded} offset 2m")
    )


def glance() -> list[Panel]:
    truncated = share(total("plaudit_truncated_total"), total("plaudit_sequences_total"))
    return [
        stat_of(
            "Drift, 15 min",
            "Largest population stability index against the reference; 0.1 is a shift, 0.25 a "
            "large one. In RL a better policy shifts scores too",
            "short",
            Query(f"max ({series(PSI, OF_MODEL, WINDOW_SHORT)})"),
            above(0.1, 0.25),
        ),
        stat_of(
            "Canary drift",
            "Largest change of the score of a stored text since training, as a share of what a "
            "start tolerates; the model's own numbers, whatever the traffic",
            "percentunit",
            Query(f"max ({series(CANARY, OF_MODEL)} / {series(TOLERANCE, OF_MODEL)})"),
            above(0.5, 1),
        ),
        stat_of(
            "Non-finite scores",
            "Scores that were NaN or infinite, a second; should stay 0",
            "cps",
            Query(f"{total('plaudit_nonfinite_total', OF_MODEL)} or vector(0)"),
            Levels((("green", None), ("red", 1e-9))),
        ),
        stat_of(
            "Truncated",
            "Share of sequences that were cut to fit",
            "percentunit",
            Query(truncated),
            above(0.05, 0.2),
        ),
    ]


def scores() -> list[Panel]:
    deciles = {"p10": 0.1, "median": 0.5, "p90": 0.9}
    return [
        heat(
            "Scores",
            "Raw scores of the selected models; choose one model for a clear picture",
            "short",
            buckets("plaudit_score", OF_MODEL),
        ),
        graph(
            "Scores by model",
            "Raw scores: the middle, and the span of four fifths of them",
            "short",
            *(
                Query(quantile(q, "plaudit_score", OF_MODEL, by="model"), "{{model}} " + name)
                for name, q in deciles.items()
            ),
            low=None,
        ),
        graph(
            "Drift (PSI)",
            "Population stability index of scores against the reference, by window; the lines are "
            "0.1 (a shift) and 0.25 (a large one)",
            "short",
            Query(series(PSI, OF_MODEL), "{{model}} {{window}} {{instance}}"),
            levels=above(0.1, 0.25),
        ),
    ]


def reference() -> list[Panel]:
    return [
        beside("Mean", "plaudit_score_mean", "plaudit_score_reference_mean", None),
        beside("Spread (σ)", "plaudit_score_std", "plaudit_score_reference_std", 0),
        graph(
            "Saturation",
            "Share of scores beyond the reference's 5 % and 95 % quantiles, 0.1 on the reference "
            "itself; a policy that lives there may have found a hack",
            "percentunit",
            Query(series("plaudit_score_saturation_ratio", OF_MODEL), "{{model}} {{instance}}"),
            levels=above(0.25, 0.4),
        ),
        graph(
            "Length and score",
            "Correlation of a response's length with its score; a rise is length hacking",
            "short",
            Query(series("plaudit_response_length_score_corr", OF_MODEL), "{{model}} {{instance}}"),
            levels=within(0.5, 0.7),
            low=-1,
        ).max(1),
    ]


def beside(title: str, seen: str, stored: str, low: float | None) -> Panel:
    return graph(
        title,
        f"{title} of recent scores, and of the reference",
        "short",
        Query(series(seen, OF_MODEL), "{{model}} {{instance}}"),
        Query(f"max by (model) ({series(stored, OF_MODEL)})", "{{model}} reference"),
        low=low,
    )


def ensemble() -> list[Panel]:
    std = "plaudit_ensemble_std"
    pair = "plaudit_ensemble_pairwise_corr"
    return [
        graph(
            "Disagreement (σ)",
            "Standard deviation of members' rewards of one item: it rises when a policy drifts to "
            "where members do not agree",
            "short",
            *(
                Query(quantile(q, std, by="ensemble"), f"{{{{ensemble}}}} p{100 * q:.0f}")
                for q in (0.5, 0.9, 0.99)
            ),
        ),
        graph(
            "Agreement of pairs",
            "Correlation of two members' scores; members that stop agreeing saw something new",
            "short",
            Query(series(pair), "{{ensemble}}: {{first}}, {{second}}"),
            low=-1,
        ).max(1),
        graph(
            "Items in dispute",
            "Share of items on which members' rewards have a standard deviation over 1",
            "percentunit",
            Query(series("plaudit_ensemble_disagree_ratio"), "{{ensemble}} {{instance}}"),
            levels=above(0.25, 0.5),
        ).max(1),
        graph(
            "Rewards without a member",
            "Rewards of an ensemble that lacked a member, by the type of its error",
            "cps",
            Query(
                total("plaudit_ensemble_degraded_total", by="ensemble, member, type"),
                "{{ensemble}}: {{member}} {{type}}",
            ),
        ),
    ]


def canaries() -> list[Panel]:
    invariance = "plaudit_batch_invariance_max_abs_diff"
    return [
        graph(
            "Canary drift by model",
            "Change of the score of a stored text since training, and what a start tolerates",
            "short",
            Query(series(CANARY, OF_MODEL), "{{model}} {{instance}}"),
            Query(f"max by (model) ({series(TOLERANCE, OF_MODEL)})", "{{model}} tolerated"),
        ),
        graph(
            "Age of the last canary",
            "Time since the model last scored its stored texts",
            "s",
            Query(series("plaudit_canary_age_seconds", OF_MODEL), "{{model}} {{instance}}"),
        ),
        graph(
            "Alone or in a batch",
            "Largest difference between scores of one stored text, beside whatever was scored with "
            "it",
            "short",
            Query(series(invariance, OF_MODEL), "{{model}} {{instance}}"),
        ),
        graph(
            "Members up",
            "1 for a model that answers, 0 for one that does not",
            "short",
            Query(series("plaudit_member_up", OF_MODEL), "{{model}} {{instance}}"),
        ).max(1),
    ]
