"""PromQL as the panels write it: everything selected by the variables of a dashboard."""

import re
from dataclasses import dataclass

from service.scoring_routes import SCORING_ROUTES

SELECTED = 'job=~"$job",instance=~"$instance"'
# Recording rules and series of a whole service have no instance.
OF_JOB = 'job=~"$job"'
OF_MODEL = 'model=~"$model"'
SCORING = f'route=~"{SCORING_ROUTES}"'
METRIC = re.compile(r"\b(?:plaudit[_:]|process_|redis_|DCGM_|kube_|up\b)[\w:]*(?=\{)")


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""


def series(metric: str, *matchers: str) -> str:
    return f"{metric}{{{','.join((SELECTED, *matchers))}}}"


def recorded(rule: str) -> str:
    return f"{rule}{{{OF_JOB}}}"


def rate(counter: str, *matchers: str) -> str:
    """A second's increase."""
    return f"rate({series(counter, *matchers)}[$__rate_interval])"


def total(counter: str, *matchers: str, by: str = "") -> str:
    """A second's increase over all that is selected, or for each label ``by``."""
    return f"{_sum(by)} ({rate(counter, *matchers)})"


def mean(histogram: str, *matchers: str, by: str = "") -> str:
    """The mean observation, in parentheses: PromQL divides from the left."""
    observed = total(f"{histogram}_sum", *matchers, by=by)
    return f"({observed} / {total(f'{histogram}_count', *matchers, by=by)})"


def quantile(q: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {total(f'{histogram}_bucket', *matchers, by=labels)})"


def buckets(histogram: str, *matchers: str) -> str:
    return total(f"{histogram}_bucket", *matchers, by="le")


def computed(by: str = "") -> str:
    """Scores computed a second. A histogram with edges below zero has no count of its own."""
    return total("plaudit_score_bucket", OF_MODEL, 'le="+Inf"', by=by)


def share(part: str, whole: str) -> str:
    """``part`` of ``whole``, without labels; a part that never happened has no series and is 0."""
    return f"({part} or vector(0)) / {whole}"


def metrics_in(expr: str) -> list[str]:
    """The metrics of an expression in order, a histogram under its own name."""
    found = (re.sub(r"_(bucket|sum|count)$", "", name) for name in METRIC.findall(expr))
    return list(dict.fromkeys(found))


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"
