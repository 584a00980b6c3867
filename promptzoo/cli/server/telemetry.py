"""Prometheus metrics and one structured log line per request, without anything that identifies a patient.

Image ids, file names, prompts and query strings are never logged or used as labels: a path is told by the route that
answered it.
"""
from __future__ import annotations

import json
import logging
import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from promptzoo.cli.server.work import WorkQueue

logger = logging.getLogger("promptzoo.requests")

BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Bounds of the latency histogram in seconds."""


class Telemetry:
    """Counts what a server does; each server has a registry of its own.

    Args:
        queue: whose waiting jobs are told.
    """

    def __init__(self, queue: WorkQueue | None = None) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter("promptzoo_requests", "Answered requests", names, registry=self.registry)
        self.seconds = Histogram("promptzoo_request_seconds", "Time to the first byte of an answer", ("route",),
                                 buckets=BUCKETS, registry=self.registry)
        self.decodes = Counter("promptzoo_decodes", "Answered prompt sets", ("bundle",), registry=self.registry)
        self.decode_seconds = Histogram("promptzoo_decode_seconds", "Time of a bundle to answer", ("bundle",),
                                        buckets=BUCKETS, registry=self.registry)
        if queue is not None:
            Gauge("promptzoo_queue_waiting", "Requests that wait for a device", ("device",), registry=self.registry
                  ).labels(queue.device).set_function(lambda: queue.waiting)

    def decoded(self, bundle: str, seconds: float) -> None:
        """Count one answered prompt set."""
        self.decodes.labels(bundle).inc()
        self.decode_seconds.labels(bundle).observe(seconds)

    def watch(self, name: str, what: str, value: Any) -> None:
        """A gauge whose value is asked for when metrics are read."""
        Gauge(f"promptzoo_{name}", what, registry=self.registry).set_function(value)

    def text(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def answered(self, method: str, route: str, status: int, seconds: float, request_id: str) -> None:
        """Count and log one answered request."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        logger.info(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "request_id": request_id,
                                "method": method, "route": route, "status": status, "seconds": round(seconds, 4)}))
