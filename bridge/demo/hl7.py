"""The messages of the simulated systems, as small templates. Nothing here comes from the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time

from bridge.demo.cast import DAY, SITE, Patient, Practice, Procedure


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that a RIS sends."""

    control_id: str
    patient: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """An imaging service request as its RIS knows it."""

    number: str
    practice: Practice
    patient: Patient
    procedure: Procedure
    accession: str
    study_uid: str
    day: date
    minute: int
    """Planned start, minutes from midnight."""
    room: str = ""
    """Room in PV1-3, if it is not the procedure's own."""

    @property
    def start(self) -> str:
        return stamp(self.day, self.minute)

    def at(self, minute: int, day: date | None = None) -> Request:
        return replace(self, minute=minute, day=day or self.day)


def stamp(day: date, minute: int) -> str:
    """yyyymmddhhmm00, local time of the site."""
    return datetime.combine(day, time(minute // 60, minute % 60)).strftime("%Y%m%d%H%M%S")


def order(request: Request, control: str, status: str, control_id: str, minute: int) -> Sent:
    """An order message: ``control`` is ORC-1, ``status`` ORC-5 (may be empty), ``minute`` when it is sent."""
    segments = [
        _msh(request, request.practice.order_type, control_id, minute),
        _pid(request.patient),
        f"PV1|1|O|RAD^{request.room or request.procedure.room}^^{SITE}",
    ]
    segments += (
        _orm(request, control, status) if request.practice.order_type == "ORM^O01" else _omi(request, control, status)
    )
    return _sent(request, control_id, segments)


def _orm(request: Request, control: str, status: str) -> list[str]:
    number, code = request.number, request.procedure
    when = f"^^^{request.start}^^R"
    return [
        f"ORC|{control}|{number}^{request.practice.facility}|F{number}^RIS||{status}||{when}|||||D001^MODELE^JEAN^^^DR",
        f"OBR|1|{number}^{request.practice.facility}|F{number}^RIS|{code.code}^{code.text}^99DEMO||||||||||||D001^MODELE^JEAN^^^DR"
        f"||{request.accession}|RP{number}|SP{number}||||{code.modality}|||{when}",
        f"ZDS|{request.study_uid}^RADBRIDGE-DEMO^Application^DICOM",
    ]


def _omi(request: Request, control: str, status: str) -> list[str]:
    number, code = request.number, request.procedure
    named = f"{code.code}^{code.text}^99DEMO"
    return [
        f"ORC|{control}|{number}^{request.practice.facility}|F{number}^RIS||{status}|||||||D001^MODELE^JEAN^^^DR",
        f"TQ1|1||||||{request.start}||R",
        f"OBR|1|{number}^{request.practice.facility}|F{number}^RIS|{named}||||||||||||D001^MODELE^JEAN^^^DR",
        f"IPC|{request.accession}|RP{number}|{request.study_uid}|SP{number}|{code.modality}|{named}|||{code.station}",
    ]


def report(request: Request, status: str, lines: list[str], conclusion: str, control_id: str, minute: int) -> Sent:
    """A report: ``status`` is OBR-25 and OBX-11, ``minute`` when it is sent and issued."""
    number, code = request.number, request.procedure
    named, issued = f"{code.code}^{code.text}^99DEMO", stamp(DAY, minute)
    segments = [
        _msh(request, "ORU^R01", control_id, minute),
        _pid(request.patient),
        f"ORC|RE|{number}^{request.practice.facility}|F{number}^RIS||CM",
        f"OBR|1|{number}^{request.practice.facility}|F{number}^RIS|{named}|||{request.start}|||||||||D001^MODELE^JEAN^^^DR"
        f"||{request.accession}||||{issued}||{code.modality}|{status}|||||||R1&LECTEUR&ANNE&&&DR",
    ]
    parts = [("GDT", line) for line in lines] + [("IMP", conclusion)]
    segments += [
        f"OBX|{count}|TX|{code.code}&{kind}^{code.text}^99DEMO|1|{line}||||||{status}"
        for count, (kind, line) in enumerate(parts, start=1)
    ]
    segments.append(f"ZDS|{request.study_uid}^RADBRIDGE-DEMO^Application^DICOM")
    return _sent(request, control_id, segments)


def resent(message: Sent, minute: int) -> Sent:
    """The same message sent again: a new MSH-7, all else as it was."""
    fields = message.raw.split(b"|", 7)
    fields[6] = stamp(DAY, minute).encode()
    return replace(message, raw=b"|".join(fields))


def acknowledge(message: bytes, name: str) -> bytes:
    """AA from the system called ``name``, unframed."""
    head = message.split(b"\r", 1)[0].split(b"|")
    identifier = head[9].decode("latin-1")
    return f"MSH|^~\\&|{name}|{SITE}|||{stamp(DAY, 0)}||ACK|{name}-{identifier}|P|2.5.1\rMSA|AA|{identifier}\r".encode()


def _msh(request: Request, kind: str, control_id: str, minute: int) -> str:
    practice = request.practice
    head = f"MSH|^~\\&|RIS|{practice.facility}|RADBRIDGE|{SITE}|{stamp(DAY, minute)}||{kind}^{kind.replace('^', '_')}"
    return f"{head}|{control_id}|P|2.5.1||||||{practice.charset}"


def _pid(patient: Patient) -> str:
    name = f"{patient.family}^{patient.given}^^^^^D"
    return f"PID|1||{patient.id}^^^DEMO&1.2.3.4.5&ISO^PI||{name}||{patient.born}|{patient.sex}"


def _sent(request: Request, control_id: str, segments: list[str]) -> Sent:
    text = "".join(f"{segment}\r" for segment in segments)
    return Sent(control_id, request.patient.id, text.encode(request.practice.codec))
