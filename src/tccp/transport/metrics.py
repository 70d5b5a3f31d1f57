"""What a daemon measures, for Prometheus, and whether it is well, over plain HTTP on the loopback interface.

    GET /metrics   text exposition, every number of `Report.families`
    GET /healthz   200 while the daemon lives, 503 with a reason a line when only a restart would help
    GET /readyz    200 while it does what it is for, 503 with a reason a line otherwise

Whoever reaches the port reads all of it, so no number is about one tenant, VM or node, and no label is made of what a
stranger sends without a bound.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog
import trio
from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tccp import __version__
from tccp.errors import ProtocolError
from tccp.measures import Durations
from tccp.transport.accepting import serve_connections
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import HttpLimits, HttpRequest, HttpResponse, serve_http, text_response

LIMITS = HttpLimits(head_bytes_max=8_192, body_bytes_max=0, requests_max=10_000, idle_s=120.0)
CONNECTIONS_MAX = 16

log = structlog.get_logger()


class Report(Protocol):
    """What a daemon has to say about itself."""

    async def families(self) -> Iterable[Metric]:
        """Every number; raises `HostError` when they cannot be had."""

    async def ailments(self) -> Sequence[str]:
        """Why the daemon should be started anew; empty when it is well."""

    async def hindrances(self) -> Sequence[str]:
        """Why it cannot do what it is for just now; empty when it can."""


class MetricsServer:
    """Answers what a monitoring system asks."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._process = ProcessCollector(registry=None)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The page at the path that is asked for, or that there is none."""
        if request.method not in {"GET", "HEAD"}:
            return text_response(405, "only GET and HEAD", ("allow", "GET, HEAD"))
        match request.target:
            case "/metrics":
                families = [*await self._report.families(), *self._process.collect()]
                body = generate_latest(_Collected(families))
                headers = (("content-type", CONTENT_TYPE_LATEST), ("cache-control", "no-store"))
                return HttpResponse(200, body, headers)
            case "/healthz":
                return _verdict("healthy", await self._report.ailments())
            case "/readyz":
                return _verdict("ready", [*await self._report.ailments(), *await self._report.hindrances()])
        return text_response(404, "nothing here", ("cache-control", "no-store"))

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection. Never raises what a peer can cause."""
        async with stream:
            try:
                await serve_http(stream, self.answer, LIMITS)
            except (PeerGoneError, ProtocolError) as problem:
                log.debug("metrics_reader_gone", reason=problem.reason, detail=problem.detail)


async def serve_metrics(listeners: Sequence[trio.SocketListener], report: Report) -> None:
    """Serve monitoring systems until cancelled; returns at once when nobody listens."""
    await serve_connections(listeners, MetricsServer(report).serve, connections_max=CONNECTIONS_MAX)


class _Collected(Collector):
    """Families that are there already, as the exposition wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _verdict(good: str, reasons: Sequence[str]) -> HttpResponse:
    if reasons:
        return text_response(503, "\n".join(reasons), ("cache-control", "no-store"))
    return text_response(200, good, ("cache-control", "no-store"))


# ---- families


def gauge(name: str, what: str, value: float) -> Metric:
    """One number that goes up and down."""
    return GaugeMetricFamily(name, what, value=value)


def counter(name: str, what: str, value: float) -> Metric:
    """One number that only grows until a restart; *name* without ``_total``."""
    return CounterMetricFamily(name, what, value=value)


def counters(name: str, what: str, label: str, values: Mapping[str, int]) -> Metric:
    """Such a number for each value of *label*."""
    family = CounterMetricFamily(name, what, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """A number that goes up and down for each value of *label*."""
    family = GaugeMetricFamily(name, what, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def histogram(name: str, what: str, durations: Durations) -> Metric:
    """How long something took."""
    family = HistogramMetricFamily(name, what, labels=[])
    family.add_metric([], _buckets(durations), durations.sum_s)
    return family


def histograms(name: str, what: str, label: str, values: Mapping[str, Durations]) -> Metric:
    """How long something took, for each value of *label*."""
    family = HistogramMetricFamily(name, what, labels=[label])
    for value, durations in values.items():
        family.add_metric([value], _buckets(durations), durations.sum_s)
    return family


def build_info() -> Metric:
    """Which version of tccp this is."""
    family = GaugeMetricFamily("tccp_build_info", "Always 1; the label says what runs.", labels=["version"])
    family.add_metric([__version__], 1)
    return family


def tpm_durations(durations: Mapping[str, Durations]) -> Metric:
    """How long commands of our own TPM took; its labels are the commands that this program knows."""
    what = "Time from sending a command to the TPM to its answer, in seconds."
    return histograms("tccp_tpm_command_duration_seconds", what, "command", durations)


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in durations.bounds_s), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, durations.cumulative, strict=True)]
