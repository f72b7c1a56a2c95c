"""Items for the bench of the worklist: synthetic, the same for every server, most of other stations and days."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bridge.codecs.dicom_file import to_file
from bridge.model import StepStatus, WorklistStep
from bridge.store import worklist_tables as t
from bridge.store.store import Store
from bridge.store.worklist_change import columns

STATION, DAY = "CT1", "20260105"
CROWD = 100_000
_OWN = 10
"""Steps of the station on the day, however many items there are."""
_STATIONS = ("CT1", "CT2", "MR1", "MR2", "US1", "US2", "US3", "DX1", "DX2", "MG1")
_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    name: str
    station: str
    day: str

    @property
    def attributes(self) -> dict[str, Any]:
        number = self.number
        return {
            "AccessionNumber": f"A{number}",
            "PatientName": f"{self.name}^ANNE^^MME",
            "PatientID": f"P{number}",
            "IssuerOfPatientID": "BENCH",
            "PatientBirthDate": "19700101",
            "PatientSex": "F",
            "PatientWeight": "70",
            "StudyInstanceUID": f"1.2.826.0.1.3680043.8.498.{number + 1}",
            "RequestedProcedureID": f"R{number}",
            "RequestedProcedureDescription": "Scanner thoracique sans injection",
            "RequestedProcedurePriority": "ROUTINE",
            "RequestingPhysician": "MEDECIN^ESSAI",
            "ReferringPhysicianName": "MEDECIN^ESSAI",
            "ScheduledProcedureStepSequence": [
                {
                    "ScheduledProcedureStepID": f"S{number}",
                    "ScheduledStationAETitle": self.station,
                    "Modality": self.station[:2],
                    "ScheduledProcedureStepStartDate": self.day,
                    "ScheduledProcedureStepStartTime": f"{8 + number % 10:02}{number % 60:02}00",
                    "ScheduledProcedureStepDescription": "Scanner thoracique",
                    "ScheduledPerformingPhysicianName": "RADIOLOGUE^ESSAI",
                }
            ],
        }


def item(number: int) -> Item:
    """The item of this number. The first ones are the station's day; every 50th of all has a name with B."""
    name = f"BENCH{'B' if number % 50 == 7 else 'A'}{number}"
    if number < _OWN:
        return Item(number, name, STATION, DAY)
    other = number % len(_STATIONS)
    day = 1 + number % 28
    month = 2 if other == 0 else 1
    return Item(number, name, _STATIONS[other], f"2026{month:02}{day:02}")


def fill(database: Path, size: int) -> None:
    """A new store with so many open items, put there as the projection would."""
    store = Store(f"sqlite:///{database}")
    try:
        for start in range(0, size, _BATCH):
            items = [item(number) for number in range(start, min(start + _BATCH, size))]
            store.write(partial(_insert, items))
    finally:
        store.close()


def _insert(items: list[Item], tx: Any) -> None:
    rows, stations = [], []
    for one in items:
        found = columns(WorklistStep(one.attributes))
        number = one.number + 1
        step = one.attributes["ScheduledProcedureStepSequence"][0]
        more = {"id": number, "order_id": number, "study_uid": one.attributes["StudyInstanceUID"], "ordered": ""}
        status = {"status": str(StepStatus.SCHEDULED), "status_origin": 1, "origin": 1, "patient_origin": 1}
        rows.append({**found, **more, **status, "step_id": step["ScheduledProcedureStepID"]})
        stations.append({"ae_title": one.station, "start_date": one.day, "item": number})
    tx.execute(insert(t.item), rows)
    tx.execute(insert(t.station), stations)


def write_files(folder: Path, size: int) -> None:
    """The same items as files, for servers that answer from a folder of them."""
    (folder / "lockfile").touch()
    for number in range(size):
        data = to_file(item(number).attributes, charset="ISO_IR 100")
        (folder / f"item{number:06}.wl").write_bytes(data)
