"""Of HTTP requests and of those who send them."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.metrics.buckets import SECONDS
from service.metrics.children import Children
from service.stages import STAGES


class Requests:
    def __init__(self, r: CollectorRegistry):
        self.http = Counter(
            "plaudit_http_requests_total", "HTTP requests", ["route", "method", "code"], registry=r
        )
        self.http_seconds = Histogram(
            "plaudit_http_request_duration_seconds", "Time from a request's last header to the "
            "last byte of its answer, its body's arrival included", ["route", "code_class"],
            buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.errors = Counter(
            "plaudit_errors_total", "Failed requests by problem type", ["route", "type"],
            registry=r,
        )  # fmt: skip
        stage_seconds = Histogram(
            "plaudit_stage_duration_seconds", "Time a request or batch spends in a stage: "
            f"{', '.join(STAGES)}", ["stage"], buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.stage_seconds = {stage: stage_seconds.labels(stage) for stage in STAGES}
        self.admission_rejections = Counter(
            "plaudit_admission_rejections_total", "Requests refused", ["reason"], registry=r
        )
        self.quota_rejections = Counter(
            "plaudit_quota_rejections_total", "Requests refused because their client's quota would "
            "not have allowed them before their deadline", ["client"], registry=r,
        )  # fmt: skip
        self.quota_wait_seconds = Counter(
            "plaudit_quota_wait_seconds_total", "Time that requests were held for their client's "
            "quota", ["client"], registry=r,
        )  # fmt: skip
        self.deadline_expired = Counter(
            "plaudit_deadline_expired_total", "Requests not done in time", ["where"], registry=r
        )
        self.retries = Counter(
            "plaudit_request_retries_total", "Requests that said they are a retry", registry=r
        )
        self.client_items = Children(Counter(
            "plaudit_client_items_total", "Items answered, by the name of the caller's API key",
            ["client"], registry=r,
        ))  # fmt: skip
        self.client_wait_seconds = Children(Counter(
            "plaudit_client_wait_seconds_total", "Time that sequences waited for a forward, summed "
            "over the sequences, by the name of the caller's API key", ["client"], registry=r,
        ))  # fmt: skip
