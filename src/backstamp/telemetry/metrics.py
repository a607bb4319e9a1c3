"""Every metric, declared once: counters from events, gauges from the rooms (docs/metrics.md).

Counting is an integer addition in the loop; Prometheus' own objects are made only when
somebody asks. Names follow Prometheus' conventions: base units, `_total` for counters.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from backstamp.telemetry import events
from backstamp.telemetry.events import Event

PREFIX: Final = "backstamp_"

COUNTERS: Final[dict[type[Event], tuple[str, str]]] = {
    events.Accepted: ("messages_accepted", "Messages on stable storage whose client was told 250."),
    events.Repeated: ("messages_repeated", "Submissions whose idempotency key stood for a message already."),
    events.Refused: ("commands_refused", "Commands about mail answered 4yz or 5yz; what HTTP refused."),
    events.Authenticated: ("authentications", "Clients that proved who they are."),
    events.AuthenticationFailed: ("authentications_failed", "AUTH commands of clients that did not."),
    events.Attempt: ("transactions", "Transactions begun, where attempts are logged."),
    events.Delivered: ("recipients_delivered", "Recipients a remote server took, durably stamped."),
    events.Deferred: ("recipients_deferred", "Outcomes that will be tried again."),
    events.Failed: ("recipients_failed", "Recipients given up."),
    events.Bounced: ("reports", "Messages whose failures were closed, with a report where one is wanted."),
    events.InDoubt: ("recipients_in_doubt", "Recipients whose final dot went out without a reply."),
    events.Alarm: ("alarms", "Events an operator should see."),
}

GAUGES: Final = {
    "queue_recipients": "Recipients still to be delivered.",
    "queue_messages": "Messages with a recipient whose stamp is not final.",
    "deliveries_claimed": "Deliveries in a lane or under way.",
    "connections": "Connections to other hosts.",
    "lanes": "Next hops with something to do.",
    "clients": "Clients connected, by SMTP and by HTTP, as `[limits] connections` counts them.",
    "suppressions": "Entries of the suppression list.",
}

BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800, 3600, 14400, 86400)
"""Upper bounds of the histograms, in seconds."""

CLASSES: Final = (
    "recipients_undelivered",
    "Outcomes that were no delivery, by `verdict` (deferred, failed) and bounce `class`.",
)
LIMITED: Final = (
    "clients_limited",
    "Times clients were refused at a limit of `[limits]`, by its key, `limit`.",
)
UNHEARD: Final = (
    "handshakes_failed",
    "Connections of clients that ended before they could be heard, by `stage` (PROXY, TLS, STARTTLS).",
)
LOST: Final = ("events_lost", "Events that could not be written.")
DELAY: Final = ("delivery_delay_seconds", "From acceptance to the durable stamp, of each recipient.")
DURATION: Final = ("transaction_duration_seconds", "From MAIL to the durable stamp, of each recipient.")


class Histogram:
    """Counts of observations by bucket."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def family(self, name: str, documentation: str) -> Metric:
        """Return it as Prometheus wants it: cumulative."""
        totals = list(accumulate(self._counts))
        bounds = [*(str(float(bound)) for bound in BUCKETS), "+Inf"]
        return HistogramMetricFamily(
            PREFIX + name, documentation, buckets=list(zip(bounds, totals, strict=True)), sum_value=self._sum
        )


class Metrics:
    """The relay's numbers."""

    def __init__(self) -> None:
        self._counts: dict[type[Event], int] = dict.fromkeys(COUNTERS, 0)
        self._classes: dict[tuple[str, str], int] = {}
        self._limits: dict[str, int] = {}
        self._unheard: dict[str, int] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._delay = Histogram()
        self._duration = Histogram()
        self.dropped = 0
        """Events for which there was no room; counted by who emits."""
        self.unwritten = 0
        """Events that nobody took; counted by who writes, as `told`: a number is one thread's."""
        self.told = 0
        """Alarms about lost events: they are made when they are written."""

    @property
    def lost(self) -> int:
        """Events that could not be written."""
        return self.dropped + self.unwritten

    def count(self, event: Event) -> None:
        """Count an event."""
        kind = type(event)
        if kind in self._counts:
            self._counts[kind] += 1
        if isinstance(event, events.Delivered):
            self._delay.observe(event.delay)
            self._duration.observe(event.duration)
        elif isinstance(event, events.Deferred | events.Failed):
            key = (str(event.__struct_config__.tag), event.bounce_class)
            self._classes[key] = self._classes.get(key, 0) + 1
        elif isinstance(event, events.Limited):
            self._limits[event.limit] = self._limits.get(event.limit, 0) + event.count
        elif isinstance(event, events.HandshakeFailed):
            self._unheard[event.stage] = self._unheard.get(event.stage, 0) + event.count

    def gauge(self, name: str, function: Callable[[], float]) -> None:
        """Give a declared gauge its number: a function that is asked whenever somebody looks."""
        assert name in GAUGES
        self._gauges[name] = function

    def families(self) -> Iterator[Metric]:
        """Yield every metric as it stands."""
        for kind, (name, documentation) in COUNTERS.items():
            more = self.told if kind is events.Alarm else 0
            yield CounterMetricFamily(PREFIX + name, documentation, value=self._counts[kind] + more)
        classes = CounterMetricFamily(PREFIX + CLASSES[0], CLASSES[1], labels=("verdict", "class"))
        for key, count in self._classes.items():
            classes.add_metric(key, count)
        yield classes
        limits = CounterMetricFamily(PREFIX + LIMITED[0], LIMITED[1], labels=("limit",))
        for limit, count in self._limits.items():
            limits.add_metric((limit,), count)
        yield limits
        unheard = CounterMetricFamily(PREFIX + UNHEARD[0], UNHEARD[1], labels=("stage",))
        for stage, count in self._unheard.items():
            unheard.add_metric((stage,), count)
        yield unheard
        yield CounterMetricFamily(PREFIX + LOST[0], LOST[1], value=self.lost)
        yield self._delay.family(*DELAY)
        yield self._duration.family(*DURATION)
        for name, function in self._gauges.items():
            yield GaugeMetricFamily(PREFIX + name, GAUGES[name], value=function())

    def collector(self) -> Collector:
        """Return what a Prometheus registry takes."""
        return _Collector(self)


class _Collector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()
