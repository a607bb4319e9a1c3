"""Counters follow events, gauges ask, and the names follow Prometheus' conventions."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from backstamp.telemetry import events
from backstamp.telemetry.metrics import COUNTERS, Metrics


def exposed(metrics: Metrics) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(metrics.collector())
    rows = [row for row in generate_latest(registry).decode().splitlines() if not row.startswith("#")]
    return {name: float(value) for name, _, value in (row.rpartition(" ") for row in rows)}


def test_events_are_counted() -> None:
    metrics = Metrics()
    for seconds in (0.004, 0.4, 100_000.0):
        metrics.count(
            events.Delivered(
                time=0, queue_id="Q", recipient="r", reply="250", mx="m", duration=0.02, delay=seconds
            )
        )
    metrics.count(events.Stopped(time=0, waiting=0))
    found = exposed(metrics)
    assert found["backstamp_recipients_delivered_total"] == 3
    assert found['backstamp_delivery_delay_seconds_bucket{le="0.01"}'] == 1
    assert found['backstamp_delivery_delay_seconds_bucket{le="0.5"}'] == 2
    assert found['backstamp_delivery_delay_seconds_bucket{le="+Inf"}'] == 3
    assert found["backstamp_delivery_delay_seconds_count"] == 3
    assert found["backstamp_transaction_duration_seconds_sum"] == 0.06


def test_what_was_no_delivery_is_counted_by_class() -> None:
    metrics = Metrics()
    common = {"time": 0, "queue_id": "Q", "recipient": "r", "mx": "m", "duration": 0.0, "scope": "host"}
    for kind in ("greylist", "greylist", "rate"):
        metrics.count(events.Deferred(**common, reply="451", retry_at=1.0, bounce_class=kind))
    metrics.count(events.Failed(**common, reply="550", bounce_class="rate"))
    found = exposed(metrics)
    name = "backstamp_recipients_undelivered_total"
    assert found[name + '{class="greylist",verdict="deferred"}'] == 2
    assert found[name + '{class="rate",verdict="deferred"}'] == 1
    assert found[name + '{class="rate",verdict="failed"}'] == 1
    assert found["backstamp_recipients_deferred_total"] == 3


def test_limits_count_what_their_events_stand_for() -> None:
    metrics = Metrics()
    for limit, count in (("message_rate", 1), ("message_rate", 7), ("connections", 2)):
        metrics.count(events.Limited(time=0, client="192.0.2.1", limit=limit, reply="450", count=count))
    found = exposed(metrics)
    assert found['backstamp_clients_limited_total{limit="message_rate"}'] == 8
    assert found['backstamp_clients_limited_total{limit="connections"}'] == 2


def test_handshakes_count_what_their_events_stand_for() -> None:
    metrics = Metrics()
    for stage, count in (("TLS", 1), ("TLS", 7), ("PROXY", 2)):
        metrics.count(
            events.HandshakeFailed(time=0, client="192.0.2.1", stage=stage, reason="no", count=count)
        )
    found = exposed(metrics)
    assert found['backstamp_handshakes_failed_total{stage="TLS"}'] == 8
    assert found['backstamp_handshakes_failed_total{stage="PROXY"}'] == 2


def test_gauges_are_asked_when_somebody_looks() -> None:
    metrics = Metrics()
    waiting = [1]
    metrics.gauge("queue_recipients", lambda: waiting[0])
    assert exposed(metrics)["backstamp_queue_recipients"] == 1
    waiting[0] = 7
    assert exposed(metrics)["backstamp_queue_recipients"] == 7


def test_every_metric_has_a_name_and_words_of_its_own() -> None:
    families = list(Metrics().families())
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation.endswith(".") for family in families)
    assert all(name.islower() for name, _ in COUNTERS.values())
