"""What is counted. Labels are names from the configuration, never content (law 8)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("radbridge_messages_received", "Messages received, by what became of them", ["channel", "outcome"])
ANSWER_SECONDS = Histogram(
    "radbridge_answer_seconds",
    "From a message read to its answer ready",
    ["channel"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
DELIVERED = Counter("radbridge_deliveries", "Delivery attempts, by how they ended", ["destination", "outcome"])
PENDING = Gauge("radbridge_deliveries_pending", "Deliveries that wait", ["destination"])
DEAD = Gauge("radbridge_deliveries_dead", "Deliveries that gave up", ["destination"])
OLDEST = Gauge("radbridge_deliveries_oldest_seconds", "Age of the oldest delivery that waits", ["destination"])
COMMITS = Gauge("radbridge_store_commits", "Transactions committed since the start")
QUEUED = Gauge("radbridge_store_queue", "Writes that wait for a commit")
DISCARDED = Gauge("radbridge_mllp_discarded_bytes", "Bytes received that belonged to no message", ["channel"])
QUESTIONS = Gauge("radbridge_identity_questions", "Claims about patient identity that wait for a person")
UNFETCHED = Gauge("radbridge_worklist_unfetched", "Scheduled steps that no modality fetched in time")
SUBSCRIPTIONS = Gauge("radbridge_fhir_subscriptions", "Subscriptions to the FHIR facade", ["channel", "status"])
UNTOLD = Gauge("radbridge_fhir_events_waiting", "Events that subscribers were not told of yet", ["channel"])
REFUSED = Gauge("radbridge_mllp_refused_connections", "Connections that were not let in", ["channel"])
