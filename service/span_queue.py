"""Spans on their way to a collector: so many may wait, others are dropped, and all are counted."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

# What became of a span: the collector took it, it did not, or too many were waiting for it.
SENT, FAILED, DROPPED = "sent", "failed", "dropped"
FATES = (SENT, FAILED, DROPPED)
# OpenTelemetry's own default. A span is about a kilobyte.
WAITING = 2048


class Fates:
    """How many spans wait, and what became of the others."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter(dict.fromkeys(FATES, 0))
        self._waiting = 0
        # Spans end in the event loop and in the threads of the stages.
        self._lock = threading.Lock()

    def room(self) -> bool:
        """Whether one more may wait; where not, it is dropped."""
        with self._lock:
            free = self._waiting < WAITING
            self._waiting += free
            self.counted[DROPPED] += not free
            return free

    @contextmanager
    def leaving(self, spans: int) -> Iterator[Counter[str]]:
        """So many are on their way, and wait until the end of the block, which counts them."""
        found: Counter[str] = Counter()
        try:
            yield found
        finally:
            with self._lock:
                self.counted.update(found)
                self._waiting -= spans


class BoundedSpans(BatchSpanProcessor):
    """Batches by a thread of its own, as OpenTelemetry's; those on their way count as waiting."""

    def __init__(self, exporter: SpanExporter, fates: Fates):
        super().__init__(CountedSpans(exporter, fates), max_queue_size=WAITING)
        self._fates = fates

    def on_end(self, span: ReadableSpan) -> None:
        sampled = span.context is not None and span.context.trace_flags.sampled
        if sampled and self._fates.room():
            super().on_end(span)


class CountedSpans(SpanExporter):
    """What ``exporter`` gets rid of, and what it does not."""

    def __init__(self, exporter: SpanExporter, fates: Fates):
        self._exporter, self._fates = exporter, fates

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._fates.leaving(len(spans)) as found:
            result = self._exporter.export(spans)
            found[SENT if result is SpanExportResult.SUCCESS else FAILED] += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
