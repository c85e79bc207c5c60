"""Of the process: what is loaded, whether it is ready, and how near its limits it works."""

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from plaudit.version import VERSION
from service import device
from service.busy import BusyClock
from service.logs import Lines
from service.metrics.at_scrape import AtScrape
from service.metrics.buckets import SECONDS


class Saturation:
    def __init__(self, r: CollectorRegistry):
        self.busy = BusyClock()
        self.loop_lag = Histogram(
            "plaudit_event_loop_lag_seconds", "How late the event loop comes back to a task that "
            "sleeps", buckets=SECONDS, registry=r,
        )  # fmt: skip
        AtScrape(
            GaugeMetricFamily, "plaudit_event_loop_tasks", "Tasks of the event loop: some of its "
            "own, and those of the requests that are answered", [], tasks, r,
        )  # fmt: skip
        AtScrape(
            CounterMetricFamily, "plaudit_log_lines_lost_total", "Lines of the log that could not "
            "be written: the disk is full, or who read them has gone", [],
            lambda: [([], float(Lines.lost))], r,
        )  # fmt: skip
        AtScrape(
            CounterMetricFamily, "plaudit_worker_busy_seconds_total", "Time in which the engine "
            "computed or planned", [], lambda: [([], self.busy.seconds())], r,
        )  # fmt: skip
        AtScrape(
            GaugeMetricFamily, "plaudit_worker_busy_ratio", "Share of the last 15 seconds in which "
            "the engine computed or planned", [], lambda: [([], self.busy.ratio())], r,
        )  # fmt: skip
        AtScrape(
            GaugeMetricFamily, "plaudit_device_memory_bytes", "Memory of the GPU: used (by "
            "whomever), total; absent without one", ["kind"], device.memory, r,
        )  # fmt: skip
        AtScrape(
            GaugeMetricFamily, "plaudit_device_utilization_ratio", "Share of time in which the GPU "
            "ran a kernel; absent without one, or without nvidia-ml-py", [], device.utilization, r,
        )  # fmt: skip
        self.startup_seconds = Gauge(
            "plaudit_startup_phase_seconds", "Time the start took: read (digests of the files), "
            "load (weights; for vLLM until it scores), probes (warm up and verification), "
            "invariance (trial of --deterministic)", ["phase"], registry=r,
        )  # fmt: skip
        self.ready = Gauge("plaudit_ready", "1 while /readyz answers 200", registry=r)
        self.member_up = Gauge(
            "plaudit_member_up", "1 while the engine computes the model's scores", ["model"],
            registry=r,
        )  # fmt: skip
        self.build_info = Gauge(
            "plaudit_build_info", "The version, as a label", ["version"], registry=r
        )
        self.build_info.labels(VERSION).set(1)
        self.model_info = Gauge(
            "plaudit_model_info", "Loaded models", ["model", "revision", "dtype", "engine"],
            registry=r,
        )  # fmt: skip
        self.swaps = Counter(
            "plaudit_swaps_total", "Asked swaps of checkpoints: switched; compared, refused or "
            "cancelled after a comparison; else the problem that was answered", ["result"],
            registry=r,
        )  # fmt: skip
        self.audit_failures = Counter(
            "plaudit_audit_failures_total", "Lines of the audit log that --audit-file did not take",
            registry=r,
        )  # fmt: skip
        self.audit_left_out = Counter(
            "plaudit_audit_left_out_total", "Refusals of the admin port that have no line of the "
            "audit log: there were too many of their kind in a minute", ["kind"], registry=r,
        )  # fmt: skip


def tasks() -> list[tuple[list[str], float]]:
    """None where it is read outside the loop."""
    try:
        return [([], float(len(asyncio.all_tasks())))]
    except RuntimeError:
        return []
