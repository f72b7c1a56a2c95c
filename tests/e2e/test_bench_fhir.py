"""``radbridge bench fhir``: every row is there, each beside plain FastAPI, and it judges what was taken and found."""

from __future__ import annotations

import json
import subprocess
from random import Random

from bridge.bench.fhir_exams import reads
from bridge.bench.fhir_load import whole
from bridge.bench.fhir_reads import CROWDED
from bridge.bench.fhir_sink import Sink
from bridge.bench.fhir_writes import IN, THROUGH
from tests.rigs.engine import RADBRIDGE


def test_a_small_bench_has_every_row_beside_plain_fastapi() -> None:
    sizes = ["--connections", "2", "--messages", "6", "--resources", "200"]

    done = subprocess.run(
        [str(RADBRIDGE), "bench", "fhir", *sizes, "--repeats", "2", "--json"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == []
    levels = report["writes"]["levels"]
    assert [(level["connections"], level["messages"]) for level in levels] == [(2, 6)]
    found = report["reads"]
    assert set(found["reads"]) == set(reads(Random(1), 10)) and 190 <= found["resources"] <= 210
    rows = [row for level in levels for row in (level["rows"][name] for name in (*IN, *THROUGH))]
    rows += list(found["reads"].values())
    for name in CROWDED:
        (crowded,) = found["reads"][name]["levels"]
        assert (crowded["connections"], crowded["requests"]) == (2, 6)
        rows.append(crowded)
    assert all(row["per_s"] > 0 and row["plain_per_s"] > 0 and row["ratio"] > 0 for row in rows)
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows)


def test_an_http_message_is_whole_with_the_last_byte_that_its_head_tells_of() -> None:
    message = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"

    assert [whole(message[:end]) for end in (10, len(message) - 1, len(message))] == [False, False, True]
    assert whole(b"HTTP/1.1 204 No Content\r\n\r\n")


def test_the_receiving_end_counts_each_order_once_and_says_what_it_made() -> None:
    sink = Sink()
    order = {"resourceType": "ServiceRequest", "identifier": [{"value": "P01000001"}]}
    transaction = json.dumps({"type": "transaction", "entry": [{"resource": order}]}, separators=(",", ":")).encode()

    first, second = sink.take(transaction), sink.take(transaction)

    assert sink.ids == ["01000001", "01000001"] and len(sink.distinct) == 1
    assert b"ServiceRequest/1/_history/1" in first and b"ServiceRequest/2/_history/1" in second
