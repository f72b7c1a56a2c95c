"""``radbridge bench``: all its figures are there, and it judges completeness and sequence at the sink."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from bridge.bench import mapping
from bridge.bench.codec import disagreements, samples
from bridge.bench.ends import Arrived, Load
from bridge.bench.figures import Level, percentile
from bridge.bench.orders import control_id, order
from bridge.bench.sequence import overtaken
from tests.rigs.engine import RADBRIDGE

WITHOUT = """\
import sys
sys.modules["hl7"] = None
from bridge.bench import run_bench
sys.exit(run_bench(subject="codec", json=True))
"""


def test_a_small_bench_has_every_figure_and_finds_all_in_sequence() -> None:
    command = [str(RADBRIDGE), "bench", "--connections", "1,4", "--messages", "50,120", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert report["start_to_first_ack_s"] > 0 and report["bare_commits_per_s"] > 0
    assert [(level["connections"], level["messages"]) for level in report["levels"]] == [(1, 50), (4, 120)]
    for level in report["levels"]:
        for answers in (level["acknowledged"], level["only_acknowledging"]):
            assert 0 < answers["p50_ms"] <= answers["p95_ms"] <= answers["p99_ms"] <= answers["max_ms"]
            assert answers["per_s"] > 0
        assert level["delivered_per_s"] > 0 and level["cpu_percent"] > 0 and level["rss_mib"] > 0
        assert all(ratio > 0 for ratio in level["ratios"].values()) and len(level["ratios"]) == 3


def test_the_codec_is_measured_beside_two_libraries_that_edit_and_route_alike() -> None:
    done = subprocess.run([str(RADBRIDGE), "bench", "codec", "--json"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == []
    order_, report_ = report["messages"]
    assert (order_["message"], report_["message"]) == ("order", "report")
    assert 1_000 <= order_["bytes"] < 1_100 and report_["bytes"] > 5_000_000
    for message in (order_, report_):
        assert [one["codec"] for one in message["codecs"]] == ["radbridge", "hl7", "hl7apy"]
        assert all(0 < one["best_us"] <= one["median_us"] for one in message["codecs"])
        assert message["codecs"][0]["ratio"] == 1.0


def test_a_library_that_is_not_there_is_said_to_be_not_installed() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    for message in json.loads(done.stdout)["messages"]:
        assert [one["codec"] for one in message["codecs"] if not one["installed"]] == ["hl7"]


def test_a_codec_that_edits_otherwise_is_a_problem() -> None:
    (sample, _) = samples(4)
    made = [("pacs-out", "", "orders")], sample.data

    assert disagreements(sample, {"radbridge": lambda data: made}) == ["order: radbridge edited or routed it wrong"]


def test_the_mapping_is_measured_beside_two_languages_that_make_the_same_worklist() -> None:
    report = mapping.measure(rounds=1)

    assert report["problems"] == []
    names = [one["mapping"] for one in report["mappings"]]
    assert names == ["order-to-worklist", "pacs-order", "orm-to-omi", "report-to-fhir"]
    assert all(0 < one["best_us"] <= one["median_us"] for one in [*report["mappings"], *report["beside"]])
    assert [one["translator"] for one in report["beside"]] == ["jsonata-python", "Jinja2"]
    assert all(one["installed"] and one["ratio"] > 0 for one in report["beside"])
    validation = report["mappings"][-1]["validation"]
    assert validation["resources"] == 7 and validation["best_us"] > 0


def test_a_language_that_is_not_there_is_said_to_be_not_installed() -> None:
    found = mapping.beside("Jinja2", {"radbridge": {"best_us": 100.0, "median_us": 110.0}})

    assert (found["installed"], found["version"], found["ratio"]) == (False, "", None)


def test_a_language_that_makes_another_worklist_is_a_problem() -> None:
    makers: dict[str, mapping.Make | None] = {"radbridge": lambda: b'{"updates": []}', "Jinja2": lambda: b"{}"}

    assert mapping.disagreements(makers) == ["Jinja2 makes another worklist of the order"]
    assert mapping.disagreements({**makers, "Jinja2": None}) == []


def test_the_order_of_the_bench_is_as_long_as_it_says_and_no_two_are_alike() -> None:
    orders = [order(1, number) for number in range(500)] + [order(2, number) for number in range(500)]
    assert 700 <= len(orders[0]) <= 860
    assert len({control_id(one) for one in orders}) == len(set(orders)) == 1000


@pytest.fixture
def level() -> Level:
    """Six messages over two connections, all well."""
    load = Load(sent=[0.0, 0.0, 1.0, 1.0, 2.0, 2.0], answered=[0.5, 0.6, 1.5, 1.6, 2.5, 2.6], refused=0)
    ids = [control_id(order(3, number)).decode() for number in (1, 0, 2, 3, 5, 4)]
    return Level(2, 3, load, Arrived(ids, 0, 3.0), 0.01, 50.0, load)


def test_messages_under_way_at_once_may_arrive_either_way_round(level: Level) -> None:
    assert level.problems() == []
    assert level.figures(1000.0)["delivered_per_s"] == 2


@pytest.mark.parametrize(
    ("ids", "unedited", "refused", "found"),
    [
        ([0, 1, 2, 3, 4], 0, 0, "1 lost"),
        ([0, 1, 2, 3, 4, 5, 5], 0, 0, "1 arrived again"),
        ([0, 1, 2, 3, 4, 5, 9], 0, 0, "1 never sent"),
        ([2, 0, 1, 3, 4, 5], 0, 0, "2 overtaken by a later one"),
        ([0, 1, 2, 3, 4, 5], 2, 0, "2 arrived unedited"),
        ([0, 1, 2, 3, 4, 5], 0, 1, "1 answered other than AA"),
    ],
)
def test_whatever_went_wrong_on_the_way_is_counted(
    level: Level, ids: list[int], unedited: int, refused: int, found: str
) -> None:
    names = [control_id(order(3, number)).decode() for number in ids]

    spoilt = replace(level, arrived=Arrived(names, unedited, 3.0), load=replace(level.load, refused=refused))

    assert spoilt.problems() == [f"2 connection(s): {found}"]


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, part) for part in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert percentile([7.0], 0.99) == 7.0


def test_only_what_was_sent_after_an_answer_counts_as_later() -> None:
    times = {"a": (0.0, 1.0), "b": (0.5, 1.5), "c": (1.2, 2.0)}
    assert overtaken(["b", "a", "c"], times) == []
    assert overtaken(["b", "c", "a"], times) == ["a"]
