"""The command as people and programs run it: in processes of its own, on a site in a folder, with real peers."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import socket
from asyncio import gather
from collections.abc import Iterator
from pathlib import Path

import hl7
import pytest
import yaml

from tests.rigs.command import TOKEN, Hospital, radbridge, send_with_hl7
from tests.rigs.engine import RADBRIDGE
from tests.rigs.radiology import hl7 as message_of
from tests.rigs.radiology import order, pid, report

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    built = Hospital.build(tmp_path)
    yield built
    built.close()


def edit(config: Path, *path: str, value: object) -> None:
    """Change one setting of a site file."""
    site = yaml.safe_load(config.read_text())
    block = site
    for name in path[:-1]:
        block = block[name]
    block[path[-1]] = value
    config.write_text(yaml.safe_dump(site, sort_keys=False))


# ---- run


async def start(hospital: Hospital) -> tuple[asyncio.subprocess.Process, dict[str, object]]:
    """The engine, and what it says as JSON once it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(RADBRIDGE, "run", "--json", "--config", hospital.config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


async def test_run_tells_where_its_ends_are_and_ends_well_on_a_signal(hospital: Hospital) -> None:
    process, facts = await start(hospital)
    answers = await send_with_hl7(hospital.mllp, order("O1", "P1", 1).data)
    process.send_signal(signal.SIGTERM)
    code = await process.wait()

    assert facts["listens"] == {
        "ris-in": f"mllp://127.0.0.1:{hospital.mllp}",
        "worklist": f"dicom://RADBRIDGE@127.0.0.1:{hospital.dicom}",
    }
    assert facts["sends"] == {"pacs-out": f"mllp://127.0.0.1:{hospital.pacs.port}"}
    assert facts["web"] == f"http://127.0.0.1:{hospital.web}"
    assert facts["data"] == str(hospital.config.parent / "var")
    assert answers == ["AA"]
    assert code == 0


async def test_a_token_that_is_made_at_the_first_start_is_shown_that_once(hospital: Hospital) -> None:
    edit(hospital.config, "web", value={"listen": f"127.0.0.1:{hospital.web}"})

    shown = []
    for _ in range(2):
        process, facts = await start(hospital)
        process.terminate()
        await process.wait()
        shown.append(facts.get("token"))

    assert isinstance(shown[0], str)
    assert len(shown[0]) >= 32
    assert shown[1] is None


async def test_run_shows_people_a_table_of_all_ends(hospital: Hospital) -> None:
    async with hospital.open() as node:
        said = node.output()

    for place in (f"mllp://127.0.0.1:{hospital.mllp}", f"http://127.0.0.1:{hospital.web}/api", "/var"):
        assert place in said
    assert TOKEN not in said


async def test_run_refuses_to_start_and_lists_every_problem_with_its_place(hospital: Hospital) -> None:
    edit(hospital.config, "channels", "pacs-out", "lane", value="patients")
    edit(hospital.config, "routes", "reports", "from", value="ris")

    ran, machine = await gather(hospital.run("run"), hospital.run("run", "--json"))

    assert ran.code == machine.code == 2
    assert "config/bridge.yaml:" in ran.err
    assert "did you mean `patient`?" in ran.err
    assert "did you mean `ris-in`?" in ran.err
    assert ran.err.count(": error: ") == 2
    assert [finding["severity"] for finding in machine.json["error"]["findings"]] == ["error", "error"]


@pytest.mark.parametrize("end", ["mllp", "web"])
async def test_run_names_the_port_that_is_taken(hospital: Hospital, end: str) -> None:
    port = getattr(hospital, end)

    with socket.create_server(("127.0.0.1", port)):
        ran = await hospital.run("run")

    assert ran.code == 2
    assert f"127.0.0.1:{port}" in ran.err
    assert "Address already in use" in ran.err
    assert "fix: " in ran.err


async def test_a_second_engine_on_the_same_data_is_refused(hospital: Hospital) -> None:
    async with hospital.open():
        ran = await hospital.run("run")

    assert ran.code == 2
    assert "another radbridge serves this data folder" in ran.err


async def test_roles_say_which_ends_a_node_opens(hospital: Hospital) -> None:
    async with hospital.open("deliver,web") as node:
        said = node.output()

    assert "mllp-in" not in said
    assert f"127.0.0.1:{hospital.mllp}" not in said
    assert f"127.0.0.1:{hospital.pacs.port}" in said
    assert (await hospital.run("run", "--roles", "receive,cook")).code == 2


async def test_the_site_file_may_come_from_the_environment(hospital: Hospital) -> None:
    named, missing = await gather(
        radbridge("check", env={"RADBRIDGE_CONFIG": str(hospital.config)}),
        radbridge("check", "--config", hospital.config.with_name("other.yaml")),
    )

    assert named.code == 0
    assert missing.code == 2
    assert "name the site file with --config" in missing.out


# ---- check, test, map


async def test_check_passes_a_good_site(hospital: Hospital) -> None:
    ran = await hospital.run("check", "--json")

    assert ran.code == 0
    assert ran.json["ok"] is True
    assert ran.json["errors"] == 0


async def test_check_finds_a_mistake_in_the_site_file_by_line_and_column(hospital: Hospital) -> None:
    text = hospital.config.read_text().replace("connect:", "conect:")
    hospital.config.write_text(text)
    line = 1 + [row.strip()[:7] for row in text.splitlines()].index("conect:")

    ran = await hospital.run("check")

    assert ran.code == 2
    assert f"config/bridge.yaml:{line}:5: error: " in ran.out
    assert "connect" in ran.out


MAPPING = """\
target: hl7v2
messages: [ORM^O01]
edits:
  - set: {MSH-3: {value: RADBRIDGE}}
"""
CASE = """\
- name: the engine is the sender
  given: samples/order.hl7
  expect: {MSH-3: %s}
"""


@pytest.fixture
def workshop(hospital: Hospital) -> Path:
    """A mappings folder of the site's own, with one mapping and one case that holds."""
    folder = hospital.config.parent / "mappings"
    (folder / "samples").mkdir(parents=True)
    (folder / "to-pacs.yaml").write_text(MAPPING)
    (folder / "to-pacs.cases.yaml").write_text(CASE % "RADBRIDGE")
    (folder / "samples" / "order.hl7").write_bytes(order("O1", "P1", 1).data)
    edit(hospital.config, "mappings", value=str(folder))
    edit(hospital.config, "routes", "orders", "to", value=[{"pacs-out": "to-pacs"}])
    edit(hospital.config, "routes", "lists", value={"from": "ris-in", "when": {"message": "OMI^O23"}, "to": "worklist"})
    return folder


async def test_a_mistake_in_a_mapping_is_found_in_its_own_file(hospital: Hospital, workshop: Path) -> None:
    (workshop / "to-pacs.yaml").write_text(MAPPING.replace("hl7v2", "hl7v3"))

    ran = await hospital.run("check", "--json")

    assert ran.code == 2
    assert ("mappings/to-pacs.yaml", 1) in [(one["file"], one["line"]) for one in ran.json["findings"]]


async def test_cases_that_hold_pass(hospital: Hospital, workshop: Path) -> None:
    ran, machine = await gather(hospital.run("test"), hospital.run("test", "to-pacs", "--json"))

    assert ran.code == machine.code == 0
    assert ran.out.splitlines() == ["1 of 1 cases hold.", "They reach 1 of 1 lines, alternatives and conditions."]
    assert [(case["name"], case["ok"]) for case in machine.json["cases"]] == [("the engine is the sender", True)]


async def test_a_case_that_does_not_hold_shows_what_was_expected_and_found(hospital: Hospital, workshop: Path) -> None:
    (workshop / "to-pacs.cases.yaml").write_text(CASE % "SOMEBODY")

    ran = await hospital.run("test")

    assert ran.code == 1
    assert "mappings/to-pacs.cases.yaml:1" in ran.out
    assert '"SOMEBODY"' in ran.out
    assert '"RADBRIDGE"' in ran.out
    assert "0 of 1 cases hold." in ran.out


async def test_cases_of_an_unknown_mapping_are_not_found(hospital: Hospital, workshop: Path) -> None:
    ran = await hospital.run("test", "to-pax")

    assert ran.code == 4
    assert "did you mean `to-pacs`?" in ran.err


async def test_map_shows_an_edited_message_line_by_line(hospital: Hospital, workshop: Path) -> None:
    sample = workshop / "samples" / "order.hl7"

    ran, machine = await gather(
        hospital.run("map", sample, "--mapping", "to-pacs"),
        hospital.run("map", "-", "--mapping", "to-pacs", "--json", stdin=sample.read_bytes()),
    )

    assert ran.code == machine.code == 0
    wanted = sample.read_bytes().decode().replace("|RIS|", "|RADBRIDGE|", 1).rstrip("\r").split("\r")
    assert ran.out.rstrip("\n").split("\n") == wanted
    assert machine.json["result"].split("\n") == wanted
    assert machine.json["control_id"] == "O1"


async def test_map_tells_place_and_fix_of_a_message_that_cannot_be_mapped(hospital: Hospital, workshop: Path) -> None:
    path = workshop / "samples" / "report.hl7"
    path.write_bytes(report("R1", "P1", 1).data)

    machine, unknown = await gather(
        hospital.run("map", path, "--mapping", "to-pacs", "--json"),
        hospital.run("map", path, "--mapping", "to-pax"),
    )

    assert machine.code == 3
    assert machine.json["error"]["at"] == "MSH-9"
    assert machine.json["error"]["fix"]
    assert unknown.code == 4
    assert "did you mean `to-pacs`?" in unknown.err


async def test_map_shows_worklist_items_as_json(hospital: Hospital, tmp_path: Path) -> None:
    path = tmp_path / "order.hl7"
    path.write_bytes(order("O1", "P1", 1).data)

    ran = await hospital.run("map", path, "--mapping", "order-to-worklist")

    assert ran.code == 0, ran.err
    (update,) = ran.json["updates"]
    assert update["steps"][0]["attributes"]["AccessionNumber"] == "A1"


# ---- send


async def test_send_shows_the_answer_and_makes_segment_ends_of_line_ends(hospital: Hospital, tmp_path: Path) -> None:
    path = tmp_path / "edited.hl7"
    path.write_bytes(order("O1", "P1", 1).data.replace(b"\r", b"\r\n"))

    async with hospital.open(), hospital.pacs.up():
        ran = await hospital.run("send", path, "--channel", "ris-in")
        await hospital.pacs.has(1)

    assert ran.code == 0
    assert "MSA|AA|O1" in ran.out
    assert "line ends made segment ends" in ran.err
    assert hospital.pacs.received[0].encode() == order("O1", "P1", 1).data


async def test_send_takes_many_messages_of_a_file_or_of_standard_input(hospital: Hospital, tmp_path: Path) -> None:
    together = b"".join(order(f"O{number}", "P1", number).data for number in range(1, 4))
    framed = b"".join(b"\x0b" + order(f"O{number}", "P1", number).data + b"\x1c\r" for number in range(4, 6))
    path = tmp_path / "capture.bin"
    path.write_bytes(framed)

    async with hospital.open():
        piped = await radbridge("send", "-", "--to", f"127.0.0.1:{hospital.mllp}", "--json", stdin=together)
        captured = await hospital.run("send", path, "--channel", "ris-in")
        listed = await hospital.run("messages", "--json")

    assert [(one["ok"], one["code"], one["control_id"]) for one in piped.json] == [
        (True, "AA", "O1"),
        (True, "AA", "O2"),
        (True, "AA", "O3"),
    ]
    assert captured.code == 0
    assert "2 of 2 taken." in captured.out
    assert [row["control_id"] for row in listed.json] == ["O5", "O4", "O3", "O2", "O1"]


async def test_send_fails_when_the_answer_is_no_or_nobody_answers(hospital: Hospital, tmp_path: Path) -> None:
    path = tmp_path / "training.hl7"
    path.write_bytes(order("O1", "P1", 1).data.replace(b"|P|2.5.1", b"|T|2.5.1"))
    sending = ("send", path, "--channel", "ris-in")

    async with hospital.open():
        refused = await hospital.run(*sending, "--json")
    nobody = await hospital.run(*sending)

    assert (refused.code, nobody.code) == (3, 5)
    assert [(one["ok"], one["code"], one["errors"][0]["code"]) for one in refused.json] == [(False, "AR", "202")]
    assert "Connection refused" in nobody.err


async def test_send_wants_exactly_one_receiver_and_a_file_it_can_read(hospital: Hospital, tmp_path: Path) -> None:
    path = tmp_path / "order.hl7"
    path.write_bytes(order("O1", "P1", 1).data)

    ran = await gather(
        hospital.run("send", path),
        hospital.run("send", tmp_path / "none.hl7", "--channel", "ris-in"),
        hospital.run("send", path, "--channel", "worklist"),
    )

    assert [one.code for one in ran] == [2, 2, 2]


# ---- messages


async def test_messages_are_found_by_what_people_know_of_them(hospital: Hospital) -> None:
    unwanted = message_of("ADT^A08", "X1", pid("P3"))

    async with hospital.open():
        await send_with_hl7(hospital.mllp, order("O1", "P1", 1).data, report("R1", "P2", 2).data, unwanted)
    wanted = {
        "--limit 2 --since 1h": ["X1", "R1"],
        "--status unrouted --channel ris-in": ["X1"],
        "--patient P2 --control-id R1 --type ORU^R01": ["R1"],
        "--accession A1 --patient P": [],
    }
    ran = await gather(*(hospital.run("messages", *option.split(), "--json") for option in wanted))

    assert {option: [row["control_id"] for row in one.json] for option, one in zip(wanted, ran, strict=True)} == wanted
    assert (await hospital.run("messages", "--since", "yesterday")).code == 2


async def test_the_list_shows_no_content_and_one_message_all_of_it(hospital: Hospital) -> None:
    async with hospital.open():
        await send_with_hl7(hospital.mllp, order("O1", "P1", 1).data)
        listed, machine = await gather(hospital.run("messages"), hospital.run("messages", "--json"))
        (row,) = machine.json
        shown, all_of_it = await gather(
            hospital.run("messages", row["id"][-6:]), hospital.run("messages", row["id"], "--json")
        )

    assert "O1" in listed.out
    assert "ÉLODIE" not in listed.out + machine.out
    assert "PID|||P1^^^HOSP||TEST1^ÉLODIE||19700101|O\n" in shown.out
    assert "pacs-out" in shown.out
    assert "worklist with order-to-worklist" in shown.out
    assert all_of_it.json["content"].split("\n") == order("O1", "P1", 1).data.decode().rstrip("\r").split("\r")
    assert [entry for entry in hospital.audit() if entry[1] == "view"] == [(ME, "view", row["id"])] * 2


async def test_control_characters_in_a_message_cannot_command_a_terminal(hospital: Hospital) -> None:
    nasty = order("O1", "P1", 1).data.replace("ÉLODIE".encode(), b"\x1b[2J\x07NAME")

    async with hospital.open():
        await send_with_hl7(hospital.mllp, nasty)
        shown = await hospital.run("messages", "01")
        await send_with_hl7(hospital.mllp, order("O2", "P1", 2).data)
        unclear = await hospital.run("messages", "01")

    assert "\\x1b[2J\\x07NAME" in shown.out
    assert "\x1b" not in shown.out
    assert unclear.code == 4, "two ids begin with 01 now"


# ---- dead, replay, skip


async def test_a_destination_that_is_away_waits_and_says_since_when_and_why(hospital: Hospital) -> None:
    async with hospital.open():
        await send_with_hl7(hospital.mllp, report("R1", "P1", 1).data, report("R2", "P2", 2).data)
        await hospital.waits()
        said = await hospital.run("dead")

    assert "pacs-out: 2 pending" in said.out
    assert "waits since" in said.out
    assert f"Connection refused at 127.0.0.1:{hospital.pacs.port}" in said.out
    assert "fix: " in said.out


async def test_what_the_pacs_refused_is_replayed_when_it_is_mended(hospital: Hospital) -> None:
    first, second = report("R1", "P1", 1).data, report("R2", "P1", 2).data
    hospital.pacs.answer = "AE"

    async with hospital.open(), hospital.pacs.up():
        await send_with_hl7(hospital.mllp, first, second)
        await hospital.dead(1)
        said, machine = await gather(hospital.run("dead"), hospital.run("dead", "--json"))
        (gone,) = machine.json["dead"]
        hospital.pacs.answer = "AA"
        looked, unasked = await gather(
            hospital.run("replay", gone["id"], "--preview", "--show"),
            hospital.run("replay", gone["id"], stdin=b"y\n"),
        )
        before = len(hospital.pacs.received)
        replayed = await hospital.run("replay", gone["id"][-6:], "--yes", "--json")
        await hospital.pacs.has(before + 2)
        await hospital.comes_to("/api/status", lambda found: not found["lanes"])
        empty = await hospital.run("dead")

    assert (gone["destination"], gone["type"], gone["status"]) == ("pacs-out", "ORU^R01", "dead")
    assert "pacs-out: 1 dead, 1 lane key(s) parked, 1 pending" in said.out
    assert gone["id"] in said.out
    assert f"{len(first)} bytes, takes the place of {gone['id']}" in looked.out
    assert "Nothing seen, as R1 says." in looked.out
    assert unasked.code == 2
    assert "add --yes, or --preview" in unasked.err
    assert replayed.json["previews"][0]["replaces"] == gone["id"]
    assert len(replayed.json["replayed"]) == 1
    assert [text.encode() for text in hospital.pacs.received[before:]] == [first, second]
    assert empty.out == "Nothing is dead, nothing is stuck.\n"
    acts = [(actor, action, subject) for actor, action, subject in hospital.audit() if action in ("preview", "replay")]
    assert (ME, "replay", gone["id"]) in acts
    assert (ME, "preview", gone["message"]) in acts


async def test_everything_dead_at_a_destination_is_replayed_in_sequence(hospital: Hospital) -> None:
    edit(hospital.config, "channels", "pacs-out", "lane", value="patient")
    messages = [report(f"R{number}", f"P{number}", number).data for number in range(1, 5)]
    hospital.pacs.answer = "AE"

    async with hospital.open(), hospital.pacs.up():
        await send_with_hl7(hospital.mllp, *messages)
        await hospital.dead(4)
        said = await hospital.run("dead")
        hospital.pacs.answer, before = "AA", len(hospital.pacs.received)
        ran = await hospital.run("replay", "--destination", "pacs-out", "--all", "--yes")
        await hospital.pacs.has(before + 4)

    assert said.out.count("AE") == 1
    assert "4 dead since" in said.out
    assert ran.code == 0
    assert "Sent again: 4." in ran.out
    assert [text.encode() for text in hospital.pacs.received[before:]] == messages


async def test_a_message_is_replayed_to_a_chosen_place_with_a_new_control_id(hospital: Hospital) -> None:
    async with hospital.open(), hospital.pacs.up():
        await send_with_hl7(hospital.mllp, report("R1", "P1", 1).data)
        await hospital.pacs.has(1)
        (row,) = (await hospital.run("messages", "--json")).json
        where = ("replay", "--message", row["id"], "--to", "pacs-out", "--yes", "--json")
        same = await hospital.run(*where)
        await hospital.pacs.has(2)
        other = await hospital.run(*where, "--new-control-id")
        await hospital.pacs.has(3)

    assert same.code == other.code == 0
    assert hospital.pacs.control_ids[:2] == ["R1", "R1"]
    assert hospital.pacs.received[0] == hospital.pacs.received[1]
    fresh = hospital.pacs.control_ids[2]
    assert fresh != "R1"
    assert hospital.pacs.received[2] == hospital.pacs.received[0].replace("|R1|", f"|{fresh}|")


async def test_a_dead_delivery_goes_out_with_a_new_control_id_in_its_own_place(hospital: Hospital) -> None:
    hospital.pacs.answer = "AE"

    async with hospital.open(), hospital.pacs.up():
        await send_with_hl7(hospital.mllp, report("R1", "P1", 1).data, report("R2", "P1", 2).data)
        (gone,) = await hospital.dead(1)
        hospital.pacs.answer, before = "AA", len(hospital.pacs.received)
        await hospital.run("replay", gone["id"], "--new-control-id", "--yes")
        await hospital.pacs.has(before + 2)

    fresh, next_one = hospital.pacs.control_ids[before:]
    assert fresh not in ("R1", "R2")
    assert next_one == "R2"


async def test_replay_warns_of_a_newer_message_that_was_delivered(hospital: Hospital) -> None:
    edit(hospital.config, "channels", "pacs-out", "on_dead", value="pass")
    placed, cancelled = order("O1", "P1", 1).data, order("O2", "P1", 1, "CA").data
    hospital.pacs.answer = "AE"

    async with hospital.open(), hospital.pacs.up():
        await send_with_hl7(hospital.mllp, placed)
        (gone,) = await hospital.dead(1)
        hospital.pacs.answer = "AA"
        await send_with_hl7(hospital.mllp, cancelled)
        await hospital.pacs.has(2)
        await hospital.comes_to("/api/deliveries?status=pending", lambda found: not found)
        ran = await hospital.run("replay", gone["id"], "--preview")

    assert ran.code == 0
    assert "a newer ORM^O01 about this order was delivered" in ran.out
    assert hospital.pacs.control_ids == ["O1", "O2"]


async def test_skip_gives_up_for_a_reason_and_lets_the_next_one_go(hospital: Hospital) -> None:
    hospital.pacs.answer = "AE"

    async with hospital.open(), hospital.pacs.up():
        await send_with_hl7(hospital.mllp, report("R1", "P1", 1).data, report("R2", "P1", 2).data)
        (gone,) = await hospital.dead(1)
        hospital.pacs.answer = "AA"
        unreasoned = await hospital.run("skip", gone["id"], "--reason", " ")
        skipped = await hospital.run("skip", gone["id"][-6:], "--reason", "sent by hand", "--json")
        await hospital.pacs.has(2)
        again, story = await gather(
            hospital.run("skip", gone["id"], "--reason", "sent by hand"), hospital.run("messages", gone["message"])
        )

    assert unreasoned.code == 3
    assert skipped.json == {"skipped": 1, "deliveries": [gone["id"]]}
    assert hospital.pacs.control_ids == ["R1", "R2"]
    assert again.code == 4
    assert "skipped: sent by hand" in story.out
    assert (ME, "skip", gone["id"]) in hospital.audit()


async def test_wishes_that_do_not_fit_together_are_refused(hospital: Hospital) -> None:
    wishes = (
        ["--all"],
        [],
        ["--destination", "pax", "--all"],
        ["--destination", "pacs-out", "--all"],
    )

    ran = await gather(*(hospital.run("replay", *wish, "--yes") for wish in wishes))

    assert [one.code for one in ran] == [2, 2, 4, 0]


async def test_everything_can_be_seen_and_ordered_while_the_engine_is_dead(hospital: Hospital) -> None:
    hospital.pacs.answer = "AE"
    async with hospital.open() as node, hospital.pacs.up():
        await send_with_hl7(hospital.mllp, report("R1", "P1", 1).data)
        (gone,) = await hospital.dead(1)
        node.kill()

    listed, said = await gather(hospital.run("messages", "--json"), hospital.run("dead"))
    replayed = await hospital.run("replay", gone["id"], "--yes")
    hospital.pacs.answer, before = "AA", len(hospital.pacs.received)
    async with hospital.open(), hospital.pacs.up():
        await hospital.pacs.has(before + 1)

    assert [row["control_id"] for row in listed.json] == ["R1"]
    assert "1 dead" in said.out
    assert replayed.code == 0
    assert str(hl7.parse(hospital.pacs.received[-1]).segment("OBX")[5]) == "Nothing seen, as R1 says."


async def test_looking_and_replaying_work_while_a_mapping_on_disk_is_broken(hospital: Hospital, workshop: Path) -> None:
    async with hospital.open():
        await send_with_hl7(hospital.mllp, order("O1", "P1", 1).data)
    (workshop / "to-pacs.yaml").write_text("target: hl7v2\nmessages: [ORM^O01]\nedits: nonsense\n")

    waiting = await hospital.run("dead", "--json")
    replayed = await hospital.run("replay", "--message", "01", "--yes")

    assert waiting.json["lanes"][0]["pending"] == 1
    assert replayed.code == 0 and "with to-pacs" in replayed.out


# ---- worklist, bench


async def test_the_worklist_shows_steps_and_their_status(hospital: Hospital) -> None:
    orders = [order("O1", "P1", 1, minute=570), order("O2", "P2", 2, minute=600), order("O3", "P1", 1, "CA")]
    wanted = ["cancelled", "scheduled"]

    async with hospital.open():
        await send_with_hl7(hospital.mllp, *(one.data for one in orders))
        await hospital.comes_to("/api/worklist", lambda found: [one["status"] for one in found] == wanted)
        steps, shown, today, nonsense = await gather(
            hospital.run("worklist", "--date", "all", "--json"),
            hospital.run("worklist", "--station", "CT1", "--date", "20260105"),
            hospital.run("worklist", "--station", "CT1"),
            hospital.run("worklist", "--date", "tomorrow"),
        )

    assert [step["status"] for step in steps.json] == wanted
    assert [(step["accession"], step["start"]) for step in steps.json] == [
        ("A1", "2026-01-05 09:30"),
        ("A2", "2026-01-05 10:00"),
    ]
    assert "TEST2^ÉLODIE" in shown.out
    assert today.out.startswith("No step")
    assert nonsense.code == 3
    assert (ME, "view", "worklist") in hospital.audit()


async def test_bench_wants_as_many_numbers_of_messages_as_of_connections() -> None:
    ran = await radbridge("bench", "--connections", "1,2", "--messages", "50", "--json")

    assert ran.code == 2
    assert ran.json["error"]["fix"] == "as many numbers in both"
