"""A radiology group's messages: orders, changes, cancellations, reports and merges of obviously synthetic patients."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

HEADER = "MSH|^~\\&|RIS|DEMO|RADBRIDGE|DEMO|20260105080000||{type}|{control}|P|2.5.1||||||UNICODE UTF-8"


@dataclass(frozen=True, slots=True)
class Said:
    """One message and what its sender knows of it."""

    id: str
    """Its MSH-10."""
    type: str
    data: bytes
    accession: str = ""
    minute: int = -1
    """When the order's step starts now, minutes after midnight; -1: it is cancelled."""


def segment(name: str, fields: Mapping[int, str]) -> str:
    """``name`` with its fields at their numbers."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields) + 1))])


def hl7(kind: str, control: str, *segments: str) -> bytes:
    return "\r".join([HEADER.format(type=kind, control=control), *segments, ""]).encode()


def pid(patient: str) -> str:
    name = f"TEST{patient[1:]}^ÉLODIE"
    return segment("PID", {3: f"{patient}^^^HOSP", 5: name, 7: "19700101", 8: "O"})


def order(control: str, patient: str, number: int, code: str = "NW", minute: int = 0) -> Said:
    """An order for one CT step on station CT1 (NW), its change (XO) or its cancellation (CA)."""
    status = "CA" if code == "CA" else "SC"
    start = f"20260105{minute // 60:02}{minute % 60:02}00"
    exam = {4: "CTHEAD^CT head^99DEMO", 18: f"A{number}", 24: "CT"}
    data = hl7(
        "ORM^O01",
        control,
        pid(patient),
        segment("ORC", {1: code, 2: f"P{number}^RIS", 3: f"F{number}^RIS", 5: status, 7: f"^^^{start}", 18: "CT1"}),
        segment("OBR", {1: "1", 2: f"P{number}^RIS", 3: f"F{number}^RIS", **exam}),
    )
    return Said(control, "ORM", data, f"A{number}", -1 if code == "CA" else minute)


def report(control: str, patient: str, number: int) -> Said:
    """A final report; its conclusion names its own control id, so that it is known again in every language."""
    exam = {2: f"P{number}^RIS", 3: f"F{number}^RIS", 4: "CTHEAD^CT head^99DEMO", 7: "20260105101500", 18: f"A{number}"}
    line = {1: "1", 2: "TX", 3: "CTHEAD&IMP^CT head^99DEMO", 5: f"Nothing seen, as {control} says.", 11: "F"}
    obr = segment("OBR", {1: "1", **exam, 22: "20260105113000", 24: "CT", 25: "F"})
    return Said(control, "ORU", hl7("ORU^R01", control, pid(patient), obr, segment("OBX", line)))


def merge(control: str, survivor: str, retired: str) -> Said:
    """An A40: about two patients."""
    event = segment("EVN", {2: "20260105080000"})
    return Said(control, "ADT", hl7("ADT^A40", control, event, pid(survivor), segment("MRG", {1: f"{retired}^^^HOSP"})))


def patients(data: bytes) -> tuple[str, ...]:
    """The patients a message is about: PID-3 and MRG-1."""
    separator, component = data[3:5].decode()
    rows = [row.split(separator) for row in data.decode().split("\r")]
    return tuple(row[3 if row[0] == "PID" else 1].partition(component)[0] for row in rows if row[0] in ("PID", "MRG"))


def control_id(data: bytes) -> str:
    return data.split(data[3:4], 10)[9].decode()


def stamped(data: bytes, second: int) -> bytes:
    """The same message with another MSH-7, as resenders send it."""
    fields = data.split(b"|", 7)
    fields[6] = f"20260105{second // 3600 % 24:02}{second // 60 % 60:02}{second % 60:02}".encode()
    return b"|".join(fields)


@dataclass(slots=True)
class Desk:
    """One workplace of a RIS: writes the day's messages about its own patients, the same for the same seed."""

    number: int
    seed: int
    patients: int = 6
    _open: list[tuple[str, int]] = field(default_factory=list)
    _orders: int = 0

    def day(self, count: int) -> list[Said]:
        chance = random.Random(f"{self.seed}/{self.number}")
        return [self._next(f"C{self.number:02}{n:05}", chance) for n in range(count)]

    def _next(self, control: str, chance: random.Random) -> Said:
        kind = chance.choices(["NW", "XO", "CA", "ORU", "ADT"], [38, 38, 10, 12, 2])[0]
        mine = [f"P{self.number:02}{n}" for n in range(self.patients)]
        if kind == "ADT":
            survivor, retired = chance.sample(mine, 2)
            return merge(control, survivor, retired)
        if kind == "NW" or not self._open:
            self._orders += 1
            patient, number = chance.choice(mine), self.number * 10_000 + self._orders
            self._open.append((patient, number))
            return order(control, patient, number, "NW", chance.randrange(1440))
        patient, number = chance.choice(self._open)
        if kind == "ORU":
            return report(control, patient, number)
        if kind == "CA":
            self._open.remove((patient, number))
        return order(control, patient, number, kind, chance.randrange(1440))
