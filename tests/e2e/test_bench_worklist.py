"""``radbridge bench worklist``: every figure is there, and it judges completeness."""

from __future__ import annotations

import json

import pytest

from bridge.bench import worklist


def test_a_small_bench_has_every_figure_of_both_servers(capsys: pytest.CaptureFixture[str]) -> None:
    assert worklist.run(json=True, sizes=(60,), repeats=2, crowd=0) == 0

    report = json.loads(capsys.readouterr().out)
    (size,) = report["sizes"]
    assert report["problems"] == [] and size["items"] == 60 and set(size["queries"]) == set(worklist.QUERIES)
    for figures in size["queries"].values():
        assert all(0 < figures[name]["p50_ms"] <= figures[name]["p95_ms"] for name in ("radbridge", "wlmscpfs"))
        assert figures["ratio"] > 0
    assert size["clients_per_s"]["ratio"] > 0 and all(first > 0 for first in size["everything_first_ms"].values())
