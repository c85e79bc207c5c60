"""Spans of requests and their stages, sent by OTLP over HTTP where that is asked for.

A span says how long, how many and which of a closed set; nothing that a caller wrote is in it but
the ids of the caller's own trace (W3C Trace Context).
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from plaudit.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from service.span_queue import Fates

Attributes = Mapping[str, str | int | float]
# Given to a collector at the stop, for the last spans.
PATIENCE_SECONDS = 5.0
# OpenTelemetry's own variables, for when ours is not set.
ENVIRONMENT = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Traces(Protocol):
    """What the service tells of its work."""

    def request(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """A request, as a part of the trace that its headers name. Spans within are its parts."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """A part of the request that is being answered."""

    def spent(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        """A part of it that is over, by ``time.perf_counter``."""

    def describe(self, route: str, method: str, status: int, counts: Attributes) -> None:
        """How the request was answered, and what was counted in it."""

    def fates(self) -> Mapping[str, int]:
        """How many spans were sent, failed to be and were dropped; empty where none is made."""

    def close(self) -> None:
        """Send what is not sent yet."""


class Off:
    """Nobody listens."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def request(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        return self._nothing

    def span(self, name: str) -> AbstractContextManager[None]:
        return self._nothing

    def spent(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        pass

    def describe(self, route: str, method: str, status: int, counts: Attributes) -> None:
        pass

    def fates(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


OFF = Off()


class Otlp:
    """Spans in batches, by a thread of their own, to a collector."""

    def __init__(self, provider: "TracerProvider", fates: "Fates"):
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._trace, self._fates = provider, trace, fates
        self._tracer = provider.get_tracer("plaudit", VERSION)
        self._caller = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context=self._caller.extract(caller_in(headers)),
            kind=self._trace.SpanKind.SERVER,
            record_exception=False,  # a message may quote the input
            set_status_on_exception=False,
        ):
            yield

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        ):
            yield

    def spent(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        epoch = time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            name, attributes=attributes, start_time=epoch + int(began * 1e9)
        )
        span.end(epoch + int(ended * 1e9))

    def describe(self, route: str, method: str, status: int, counts: Attributes) -> None:
        span = self._trace.get_current_span()
        span.set_attributes({f"plaudit.{name}": value for name, value in counts.items()})
        span.set_attributes(
            {
                "http.route": route,
                "http.request.method": method,
                "http.response.status_code": status,
            }
        )
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)

    def fates(self) -> Mapping[str, int]:
        return {**self._fates.counted}

    def close(self) -> None:
        # In a thread that the process does not wait for: shutdown has no bound of its own.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(PATIENCE_SECONDS)


def caller_in(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's trace and span. Its tracestate is text of anybody's, and stays out."""
    return {name: value for name, value in headers.items() if name.lower() == "traceparent"}


def wanted(endpoint: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are to go anywhere."""
    return endpoint is not None or any(environ.get(name) for name in ENVIRONMENT)


def to(endpoint: str | None) -> Otlp:
    """Traces for the collector at ``endpoint``, such as ``http://127.0.0.1:4318``, or for the one
    in OpenTelemetry's own variables. ImportError without plaudit[otel]."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    from service.span_queue import BoundedSpans, Fates

    url = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "plaudit")}
    provider = TracerProvider(
        resource=Resource.create(named | {"service.version": VERSION}), shutdown_on_exit=False
    )
    fates = Fates()
    provider.add_span_processor(BoundedSpans(OTLPSpanExporter(endpoint=url), fates))
    return Otlp(provider, fates)
