"""Numbers for Prometheus, in a registry of each application's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 100)


class Metrics:
    """What is counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sam_plugins_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "sam_plugins_request_seconds",
            "Time to answer.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.problems = Counter(
            "sam_plugins_problems",
            "What went wrong, by kind; see /status.",
            ["kind"],
            registry=self.registry,
        )
        self.encodes = Counter(
            "sam_plugins_encodes", "Pictures that were encoded.", registry=self.registry
        )
        self.warm = Counter(
            "sam_plugins_warm", "Requests that found their embedding.", registry=self.registry
        )
        self.waiting = Gauge(
            "sam_plugins_lane_waiting", "Jobs that wait for the model.", registry=self.registry
        )
        self.background = Gauge(
            "sam_plugins_background_tasks",
            "Tasks whose predictions will be posted.",
            registry=self.registry,
        )
        self.cache_bytes = Gauge(
            "sam_plugins_cache_bytes", "Embeddings in memory.", registry=self.registry
        )

    def text(self) -> bytes:
        """Return everything in Prometheus' format."""
        return generate_latest(self.registry)
