"""How much room is left, and what would run out first."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from service.monitoring.boards.board import board
from service.monitoring.boards.levels import above
from service.monitoring.boards.panels import Panel, graph, stat_of
from service.monitoring.boards.promql import Query, computed, quantile, rate, series

BUSY = "plaudit_worker_busy_seconds_total"
BUSY_NOW = "plaudit_worker_busy_ratio"
MEMORY = "plaudit_device_memory_bytes"
UTILISATION = "plaudit_device_utilization_ratio"
LAG = "plaudit_event_loop_lag_seconds"
RSS = "process_resident_memory_bytes"
AUDIT_FAILURES = "plaudit_audit_failures_total"


def capacity() -> Dashboard:
    rows = [
        ("Room", room()),
        ("Engine", engine()),
        ("Process", process()),
        ("Device", device()),
        ("Start and scale", scale()),
    ]
    return board("capacity", "How much room is left, and what runs out first?", rows)


def room() -> list[Panel]:
    return [
        stat_of(
            "Engine busy",
            "Share of time in which the engines computed; from 0.9 on, more work only queues",
            "percentunit",
            Query(f"avg ({rate(BUSY)})"),
            above(0.7, 0.9),
        ),
        stat_of(
            "Saturates at",
            "Scores a second that these replicas could compute at this mix of lengths: what a "
            "busy second computes, times the replicas",
            "cps",
            Query(f"{computed()} / avg ({rate(BUSY)})"),
        ),
        stat_of(
            "Event loop lag, p99",
            "How late the event loop turns; high means that a CPU is short or something blocks it",
            "s",
            Query(quantile(0.99, LAG)),
            above(0.05, 0.25),
        ),
        stat_of(
            "File descriptors",
            "Share of the allowed descriptors that are open, on the worst replica",
            "percentunit",
            Query(f"max ({series('process_open_fds')} / {series('process_max_fds')})"),
            above(0.6, 0.8),
        ),
    ]


def engine() -> list[Panel]:
    return [
        graph(
            "Engine busy by replica",
            "Share of time in which the engine computed, as the replica says and as its counter "
            "grew",
            "percentunit",
            Query(series(BUSY_NOW), "{{instance}}"),
            Query(rate(BUSY), "{{instance}} counted"),
            levels=above(0.7, 0.9),
        ).max(1),
        graph(
            "Computed by model",
            "Scores computed a second, by model",
            "cps",
            Query(computed(by="model"), "{{model}}"),
        ),
        graph(
            "Queued tokens",
            "Tokens admitted and not yet answered; the autoscaler acts on this",
            "short",
            Query(series("plaudit_queue_tokens"), "{{instance}}"),
        ),
    ]


def process() -> list[Panel]:
    return [
        graph(
            "Event loop lag by replica, p99",
            "How late the event loop turns",
            "s",
            Query(quantile(0.99, LAG, by="instance"), "{{instance}}"),
            levels=above(0.05, 0.25),
        ),
        graph(
            "Memory",
            "Resident memory of the process",
            "bytes",
            Query(series(RSS), "{{instance}}"),
        ),
        graph(
            "CPU",
            "CPUs that the process uses",
            "short",
            Query(rate("process_cpu_seconds_total"), "{{instance}}"),
        ),
        graph(
            "Audit lines not written",
            "Lines that --audit-file did not take, as on a full disk; the server's log has them",
            "cps",
            Query(rate(AUDIT_FAILURES), "{{instance}}"),
        ),
    ]


def device() -> list[Panel]:
    return [
        graph(
            "Device memory",
            "Memory of the device, used and total; CPU replicas have none",
            "bytes",
            Query(series(MEMORY), "{{kind}} {{instance}}"),
        ),
        graph(
            "Device utilisation",
            "Share of time in which the device ran anything; busy is not the same as full",
            "percentunit",
            Query(series(UTILISATION), "{{instance}}"),
        ).max(1),
        graph(
            "Power",
            "Power of each GPU of the cluster, from NVIDIA's dcgm-exporter",
            "watt",
            Query('DCGM_FI_DEV_POWER_USAGE{gpu=~".+"}', "{{Hostname}} {{gpu}}"),
        ),
    ]


def scale() -> list[Panel]:
    hpa = '{horizontalpodautoscaler=~".*plaudit.*"}'
    return [
        graph(
            "Start by phase",
            "What each phase of the last start took",
            "s",
            Query(series("plaudit_startup_phase_seconds"), "{{phase}} {{instance}}"),
        ),
        graph(
            "Replicas",
            "Replicas that the autoscaler has and wants, from kube-state-metrics",
            "short",
            Query(f"kube_horizontalpodautoscaler_status_current_replicas{hpa}", "has"),
            Query(f"kube_horizontalpodautoscaler_status_desired_replicas{hpa}", "wants"),
        ),
        graph(
            "Version",
            "Replicas by version: two lines are a rollout",
            "short",
            Query(f"sum by (version) ({series('plaudit_build_info')})", "{{version}}"),
        ),
    ]
