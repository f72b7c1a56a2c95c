"""Patient identity on a real engine, on SQLite and on PostgreSQL: a HIS that owns it, a RIS that does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rigs.command import TOKEN, Hl7Pacs, Hospital, reserve
from tests.rigs.engine import write_site
from tests.rigs.need import REPOSITORY, require_data
from tests.rigs.radiology import Said, hl7, merge, order, pid, segment

SHIPPED = yaml.safe_load((REPOSITORY / "config" / "bridge.yaml").read_text())["routes"]["patients"]["when"]


@pytest.fixture
def hospital(tmp_path: Path, store_url: str) -> Iterator[Hospital]:
    """RIS and HIS in, worklist and PACS out; the mappings are its own."""
    holders = [reserve() for _ in range(5)]
    mllp, his, dicom, web, pacs = (holder.getsockname()[1] for holder in holders)
    shutil.copytree(REPOSITORY / "mappings", tmp_path / "mappings")
    retry = {"first": "50ms", "max": "200ms"}
    channels = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{mllp}"},
        "his-in": {"type": "mllp-in", "listen": f"127.0.0.1:{his}", "identity": True},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}", "on_dead": "pass"},
        "pacs-out": {"type": "mllp-out", "connect": f"127.0.0.1:{pacs}", "lane": "patient", "retry": retry},
    }
    routes = {
        "orders": {"from": "ris-in", "when": {"message": "ORM^O01"}, "to": [{"worklist": "order-to-worklist"}]},
        "patients": {"from": ["his-in", "ris-in"], "when": SHIPPED, "to": [{"worklist": "adt-to-worklist"}]},
        "all": {"from": ["his-in", "ris-in"], "to": ["pacs-out"]},
    }
    more = {"store": {"url": store_url}, "mappings": str(tmp_path / "mappings")}
    listens = {"listen": f"127.0.0.1:{web}", "token": TOKEN}
    config = write_site(tmp_path, channels, routes, web=listens, **more)
    built = Hospital(config, mllp, dicom, web, Hl7Pacs(pacs), holders)
    yield built
    built.close()


async def post(hospital: Hospital, *messages: Said | bytes, channel: str = "his-in") -> list[Any]:
    """What the engine answers to each, handed in one after the other."""
    async with hospital.client() as client:
        answers = []
        for message in messages:
            data = message if isinstance(message, bytes) else message.data
            answers.append((await client.post(f"/api/channels/{channel}/messages", content=data)).json())
        return answers


async def listed(hospital: Hospital, ready: Any) -> dict[str, Any]:
    """Accession number -> attributes of all steps, once ``ready`` finds them so."""

    def by_accession(found: list[Any]) -> dict[str, Any]:
        return {step["attributes"].get("AccessionNumber"): step["attributes"] for step in found}

    return by_accession(await hospital.comes_to("/api/worklist", lambda found: ready(by_accession(found))))


def ids(steps: dict[str, Any]) -> dict[str, str]:
    return {accession: step["PatientID"] for accession, step in steps.items()}


async def settled(hospital: Hospital) -> None:
    """Nothing is on its way to the worklist."""
    await hospital.comes_to(
        "/api/deliveries?status=pending", lambda found: not [d for d in found if d["destination"] == "worklist"]
    )


async def warnings(hospital: Hospital, message: str) -> list[str]:
    async with hospital.client() as client:
        found = (await client.get(f"/api/messages/{message}")).json()
        return found["warnings"] or []


def adt(trigger: str, control: str, patient: str, name: str) -> bytes:
    who = segment("PID", {3: f"{patient}^^^HOSP", 5: name, 7: "19700109", 8: "F"})
    return hl7(f"ADT^{trigger}", control, segment("EVN", {2: "20260105"}), who)


async def test_a_merge_moves_the_worklist_and_the_old_identifier_stays_merged(hospital: Hospital) -> None:
    async with hospital.pacs.up(), hospital.open():
        # Given an order under an identifier
        await post(hospital, order("C1", "PO", 1), channel="ris-in")
        await listed(hospital, lambda found: ids(found) == {"A1": "PO"})
        # When the HIS merges it into another one
        await post(hospital, merge("C2", "PS", "PO"))
        moved = await listed(hospital, lambda found: ids(found) == {"A1": "PS"})
        # Then the step is the survivor's, by number and by name
        assert moved["A1"]["IssuerOfPatientID"] == "HOSP"
        assert moved["A1"]["PatientName"] == "TESTS^ÉLODIE"
        # And what still comes under the retired identifier is the survivor's too, a change and an update included
        later = [order("C3", "PO", 2), order("C4", "PO", 1, "XO", 60)]
        await post(hospital, *later, channel="ris-in")
        await post(hospital, adt("A08", "C5", "PO", "TESTNEW^ALICE"))
        found = await listed(hospital, lambda found: all(s["PatientName"] == "TESTNEW^ALICE" for s in found.values()))
        assert ids(found) == {"A1": "PS", "A2": "PS"}
        # And the PACS, which gets messages as they came, got every byte
        await hospital.pacs.has(5)
        assert hospital.pacs.received[2] == later[0].data.decode()
        # And the messages of both are found by either identifier
        for patient in ("PO^HOSP", "PS^HOSP"):
            async with hospital.client() as client:
                rows = (await client.get("/api/messages", params={"patient": patient})).json()
            assert {row["control_id"] for row in rows} == {"C1", "C2", "C3", "C4", "C5"}


async def test_adt_of_a_system_that_does_not_own_identity_merges_nobody(hospital: Hospital) -> None:
    async with hospital.pacs.up(), hospital.open():
        await post(hospital, order("C1", "PO", 1), merge("C2", "PS", "PO"), order("C3", "PO", 2), channel="ris-in")
        await hospital.pacs.has(3)
        await settled(hospital)

        steps = await listed(hospital, lambda found: len(found) == 2)
        nobody = await hospital.run("identity", "PO^HOSP", "--json")

    assert ids(steps) == {"A1": "PO", "A2": "PO"}
    assert {step["PatientName"] for step in steps.values()} == {"TESTO^ÉLODIE"}
    assert nobody.code == 4


async def test_a_circular_merge_is_held_until_a_person_accepts_it(hospital: Hospital) -> None:
    async with hospital.pacs.up(), hospital.open():
        # Given a merge, and an order of the survivor
        await post(hospital, merge("C1", "PS", "PO"))
        await post(hospital, order("C2", "PS", 1), channel="ris-in")
        # When the HIS merges the survivor into the retired one
        (held,) = await post(hospital, merge("C3", "PO", "PS"))
        # Then it is accepted and delivered, and flagged; the worklist stays as it is
        assert await warnings(hospital, held["message"]) == ["identity question 1 is held"]
        await hospital.pacs.has(3)
        await settled(hospital)
        assert ids(await listed(hospital, len)) == {"A1": "PS"}
        (question,) = (await hospital.run("identity", "--json")).json
        assert (question["identifier"], question["candidates"]) == ("PS^HOSP", ["PO^HOSP"])
        shown = await hospital.run("identity")
        assert "was itself merged" in shown.out
        async with hospital.client() as client:
            assert "radbridge_identity_questions 1.0" in (await client.get("/metrics")).text
        # And once a person says that it is so, the worklist follows
        done = await hospital.run("identity", "--accept", "1", "--reason", "the HIS confirmed", "--json")
        assert (done.json["question"]["status"], len(done.json["deliveries"])) == ("accepted", 1)
        await listed(hospital, lambda found: ids(found) == {"A1": "PO"})
        # And the PACS does not get it once more
        person = (await hospital.run("identity", "PS^HOSP", "--json")).json
        assert person["survivor"] == "PO^HOSP"
        assert [row["act"] for row in person["history"]] == ["merge", "unmerge", "merge"]
        assert [row["control_id"] for row in (await hospital.run("messages", "--json")).json] == ["C3", "C2", "C1"]
        assert hospital.pacs.control_ids.count("C3") == 1


async def test_a_merge_that_was_rejected_or_taken_back_holds_no_more(hospital: Hospital) -> None:
    async with hospital.pacs.up(), hospital.open(), hospital.client() as client:
        await post(hospital, merge("C1", "PS", "PO"), merge("C2", "PT", "PO"))
        (question,) = (await client.get("/api/identity/questions")).json()
        no_reason = await client.post(f"/api/identity/questions/{question['number']}/reject", json={"reason": ""})
        rejected = await client.post(f"/api/identity/questions/{question['number']}/reject", json={"reason": "no"})
        again = await client.post(f"/api/identity/questions/{question['number']}/accept", json={"reason": "yes"})
        person = (await client.get("/api/identity/patient", params={"identifier": "PO"})).json()
        unmerged = await client.post("/api/identity/unmerge", json={"identifier": "PO^HOSP", "reason": "two people"})
        await post(hospital, order("C3", "PO", 1), channel="ris-in")
        steps = await listed(hospital, len)
        unknown = await client.get("/api/identity/patient", params={"identifier": "NOBODY^HOSP"})

    assert (no_reason.status_code, rejected.status_code, again.status_code) == (422, 200, 409)
    assert rejected.json()["question"]["status"] == "rejected"
    assert person["survivor"] == "PS^HOSP"
    assert unmerged.json() == {"identifier": "PO^HOSP"}
    assert ids(steps) == {"A1": "PO"}
    assert unknown.status_code == 404


async def test_a_merge_waits_in_the_lanes_of_both_and_joins_them(hospital: Hospital) -> None:
    pacs = hospital.pacs
    async with pacs.up(), hospital.open():
        # Given an order of the one patient that the PACS refused
        pacs.answer = "AE"
        await post(hospital, order("C1", "PO", 1), channel="ris-in")
        (dead,) = await hospital.dead(1)
        # When a merge follows, and orders of the other patient and of a third one
        pacs.answer = "AA"
        await post(hospital, merge("C2", "PS", "PO"))
        await post(hospital, order("C3", "PS", 2), order("C4", "PX", 3), channel="ris-in")
        await pacs.has(2)
        # Then only the third one's goes; the others follow in sequence when the first has gone
        assert pacs.control_ids == ["C1", "C4"]
        assert (await hospital.run("replay", dead["id"], "--yes")).code == 0
        await pacs.has(5)
        assert pacs.control_ids[2:] == ["C1", "C2", "C3"]
        # And from the merge on the two are one lane
        pacs.answer = "AE"
        await post(hospital, order("C5", "PO", 4), channel="ris-in")
        (dead,) = await hospital.dead(1)
        pacs.answer = "AA"
        await post(hospital, order("C6", "PS", 5), order("C7", "PX", 6), channel="ris-in")
        await pacs.has(7)
        assert pacs.control_ids[5:] == ["C5", "C7"]
        assert (await hospital.run("skip", dead["id"], "--reason", "told by phone")).code == 0
        await pacs.has(8)
        assert pacs.control_ids[7:] == ["C6"]


async def test_what_was_accepted_before_a_merge_and_is_rendered_after_it_is_the_survivors(hospital: Hospital) -> None:
    table = hospital.config.parent / "mappings" / "tables" / "modality.csv"
    unknown = order("C1", "PO", 1).data.replace(b"|CT\r", b"|XYZ\r")
    assert unknown != order("C1", "PO", 1).data
    async with hospital.pacs.up():
        # Given an order that no table knew what to do with, and a merge after it
        async with hospital.open():
            await post(hospital, unknown, channel="ris-in")
            (dead,) = await hospital.dead(1)
            await post(hospital, merge("C2", "PS", "PO"))
            await hospital.pacs.has(2)
        # When the table is mended and the order is sent again
        table.write_text(table.read_text() + "XYZ,CT,\n")
        async with hospital.open():
            assert (await hospital.run("replay", dead["id"], "--yes")).code == 0
            steps = await listed(hospital, len)
    # Then it is on the survivor's list
    assert ids(steps) == {"A1": "PS"}


async def test_an_hl7_edit_puts_the_survivor_where_it_says_so(hospital: Hospital) -> None:
    site = yaml.safe_load(hospital.config.read_text())
    site["routes"]["all"]["when"] = {"message": "ORM^O01"}
    site["routes"]["all"]["to"] = [{"pacs-out": "pacs-order"}]
    hospital.config.write_text(yaml.safe_dump(site))

    async with hospital.pacs.up(), hospital.open():
        await post(hospital, merge("C1", "PS", "PO"))
        await post(hospital, order("C2", "PO", 1), channel="ris-in")
        await hospital.pacs.has(1)

    assert "PID|||PS^^^HOSP||TESTO^ÉLODIE|" in hospital.pacs.received[0]


async def test_an_act_that_names_nobody_is_refused_and_kept(hospital: Hospital) -> None:
    nameless = hl7("ADT^A40", "C1", pid("PS"))
    async with hospital.pacs.up(), hospital.open():
        (owner,) = await post(hospital, nameless)
        (other,) = await post(hospital, nameless.replace(b"|C1|", b"|C2|"), channel="ris-in")

    assert (owner["at"], owner["kind"]) == ("MRG-1", "required")
    assert "MSA|AE|C1" in owner["answer"]
    assert "MSA|AA|C2" in other["answer"]


OUTCOMES = {
    "dcm4che/ADT_A40-PatientMerge.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A01-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A02-01.hl7": None,
    "fhir-converter/ADT-A03-01.hl7": None,
    "fhir-converter/ADT-A04-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A05-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A08-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A11-01.hl7": None,
    "fhir-converter/ADT-A13-01.hl7": None,
    "fhir-converter/ADT-A28-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A31-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A40-01.hl7": ("done", "no open step of this patient"),
    "fhir-converter/ADT-A47-01.hl7": ("done", "no open step of this patient"),
}
"""Published file -> how its delivery to the worklist ends; None: no route brings it there."""


async def test_every_published_adt_message_is_accepted_and_ends_well(hospital: Hospital) -> None:
    folder = require_data("hl7")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("ADT*.hl7")} == set(OUTCOMES)
    ends: dict[str, Any] = {}

    async with hospital.pacs.up(), hospital.open(), hospital.client() as client:
        taken = {}
        for name in OUTCOMES:
            (answer,) = await post(hospital, folder.joinpath(name).read_bytes())
            assert answer.get("what") is None, (name, answer)
            taken[name] = answer["message"]
        await hospital.comes_to("/api/deliveries?status=pending", lambda found: not found)
        for name, message in taken.items():
            deliveries = (await client.get(f"/api/messages/{message}")).json()["deliveries"]
            mine = [one for one in deliveries if one["destination"] == "worklist"]
            ends[name] = (mine[0]["status"], mine[0]["answer"] or mine[0]["error"]) if mine else None
        questions = (await client.get("/api/identity/questions")).json()

    assert ends == OUTCOMES
    assert [(one["act"], one["identifier"]) for one in questions] == [("change", "MR102^BCBS")]
