"""What a request says of where it belongs: its own id, and the trace of the caller."""

import sys
import uuid
from collections.abc import Callable, Mapping
from importlib import import_module

ExtraHeaders = Callable[[], Mapping[str, str]]


def new_request_id() -> str:
    return uuid.uuid4().hex


def trace_headers() -> dict[str, str]:
    """``traceparent`` and its like of the current span, if the caller's process uses OpenTelemetry.

    Injected by its global propagator, W3C Trace Context by default; empty without a span.
    """
    carrier: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        import_module("opentelemetry.propagate").inject(carrier)
    return carrier
