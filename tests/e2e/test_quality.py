"""The data quality report of a real engine: what its command prints for a sender's support, and its API gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.command import Hospital, send_with_hl7
from tests.rigs.radiology import order


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    built = Hospital.build(tmp_path)
    yield built
    built.close()


async def test_a_senders_support_reads_which_field_is_missing_how_often_and_in_which_message(
    hospital: Hospital,
) -> None:
    # Given three orders in order, one without a patient's number and two that are only tests
    without_number = order("N4", "P1", 4).data.replace(b"P1^^^HOSP", b"")
    tests = [order(f"T{number}", "P1", number).data.replace(b"|P|2.5.1", b"|T|2.5.1") for number in (5, 6)]
    async with hospital.open():
        await send_with_hl7(hospital.mllp, *(order(f"O{number}", "P1", number).data for number in (1, 2, 3)))
        await send_with_hl7(hospital.mllp, without_number, *tests)
        (gone,) = await hospital.dead(1)
        # When the command and the API are asked
        said = await hospital.run("quality", "--since", "1h")
        machine = await hospital.run("quality", "--channel", "ris-in", "--json")
        async with hospital.client() as client:
            served = (await client.get("/api/quality", params={"channel": "ris-in"})).json()
            elsewhere = (await client.get("/api/quality", params={"channel": "his-in"})).json()

    # Then both tell the place, the count and an example, and nothing of the patient
    (source,) = served
    assert machine.json["sources"] == served
    assert elsewhere == []
    assert (source["sender"], source["channel"], source["messages"], source["refused"]) == ("RIS|DEMO", "ris-in", 6, 2)
    refused, missing = source["findings"]
    assert (missing["place"], missing["kind"], missing["outcome"]) == ("PID-3", "required", "undeliverable")
    assert (missing["messages"], missing["control_id"], missing["example"]) == (1, "N4", gone["message"])
    assert (refused["place"], refused["outcome"]) == ("MSH-11", "refused")
    assert (refused["messages"], refused["control_id"]) == (2, "T6")
    assert "RIS / DEMO over ris-in: 6 messages, 2 refused" in said.out
    assert "1 of 6 messages, accepted but not delivered" in said.out
    assert "control id N4" in said.out
    assert all(part not in said.out + machine.out for part in ("LODIE", "TEST1", "P1^^^HOSP", "19700101"))


async def test_a_site_without_messages_has_nothing_to_report(hospital: Hospital) -> None:
    said = await hospital.run("quality")

    assert said.code == 0
    assert "None were received." in said.out
