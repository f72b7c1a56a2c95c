"""What must be true at the ends when the day is over, judged from what the ends saw alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.bench.sequence import overtaken
from bridge.demo.cast import STATIONS
from bridge.demo.day import Day, Exam
from bridge.demo.his import Report
from bridge.demo.hl7 import Request, Sent
from bridge.demo.modality import Listed
from bridge.demo.pacs import Arrival
from bridge.demo.ris import Told


@dataclass(slots=True)
class Seen:
    """Everything that was seen at the ends."""

    told: Mapping[str, Told] = field(default_factory=dict)
    """By control id."""
    arrivals: Sequence[Arrival] = ()
    """At the PACS, in the sequence in which they came."""
    lists: Mapping[str, Mapping[str, Listed]] = field(default_factory=dict)
    """Station -> accession number -> line, for any day, in the end."""
    listings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Accession number -> what the scanner's list of the day showed of it, in sequence."""
    reports: Sequence[Report] = ()
    """At the HIS, in the end."""
    undelivered: Sequence[str] = ()
    """What the engine still owes or gave up."""


def problems(day: Day, seen: Seen) -> list[str]:
    """What is not as it must be, in sentences; empty when all is well."""
    return [
        *_answers(day, seen),
        *_at_the_pacs(day, seen),
        *_on_the_lists(day, seen),
        *_at_the_his(day, seen),
        *(f"not delivered: {one}" for one in seen.undelivered),
    ]


def _answers(day: Day, seen: Seen) -> Iterator[str]:
    for exam in day.exams:
        for message in exam.messages:
            told = seen.told.get(message.control_id)
            if told is None or not told.codes:
                yield f"{message.control_id}: never answered"
            elif set(told.codes) != {"AA"}:
                yield f"{message.control_id}: answered {', '.join(told.codes)}"


def _at_the_pacs(day: Day, seen: Seen) -> Iterator[str]:
    sent: dict[str, tuple[Exam, Sent]] = {}
    for exam in day.exams:
        for message in exam.messages:
            sent.setdefault(message.control_id, (exam, message))
    first: dict[str, Arrival] = {}
    for arrival in seen.arrivals:
        before = first.setdefault(arrival.control_id, arrival)
        if arrival.control_id not in sent:
            yield f"PACS: got {arrival.control_id}, which nobody sent"
        elif before.raw != arrival.raw:
            yield f"PACS: got {arrival.control_id} twice with different content"
        elif before is arrival and not _faithful(*sent[arrival.control_id], arrival):
            yield f"PACS: {arrival.control_id} does not say what its RIS sent"
    yield from (f"PACS: never got {control_id}" for control_id in sent.keys() - first.keys())
    yield from _sequence(sent, first, seen.told)


def _sequence(
    sent: Mapping[str, tuple[Exam, Sent]], first: Mapping[str, Arrival], told: Mapping[str, Told]
) -> Iterator[str]:
    by_patient: dict[str, list[str]] = {}
    for control_id in first:
        if control_id in sent and control_id in told:
            by_patient.setdefault(sent[control_id][1].patient, []).append(control_id)
    for patient, ids in by_patient.items():
        times = {one: (told[one].sent, told[one].answered) for one in ids}
        for late in overtaken(ids, times):
            yield f"PACS: {late} was overtaken by a later message about {patient}"


def _faithful(exam: Exam, message: Sent, arrival: Arrival) -> bool:
    """A report arrives byte for byte; an order with the accession number where this PACS looks for it, OBR-18."""
    if b"|ORU^R01" in message.raw:
        return arrival.raw == message.raw
    lines = dict(line.split(b"|", 1) for line in arrival.raw.split(b"\r") if line)
    wanted = dict(line.split(b"|", 1) for line in message.raw.split(b"\r") if line)
    accession = lines[b"OBR"].split(b"|")[17]
    return accession in message.raw and bool(accession) and lines[b"PID"] == wanted[b"PID"]


def _on_the_lists(day: Day, seen: Seen) -> Iterator[str]:
    for station in STATIONS:
        finals = (exam.final for exam in day.exams if exam.final and exam.request.procedure.station == station)
        wanted = {one.accession: one for one in finals}
        listed = seen.lists.get(station, {})
        for accession in wanted.keys() - listed.keys():
            yield f"{station}: {accession} is missing from the list"
        for accession in listed.keys() - wanted.keys():
            yield f"{station}: {accession} should not be on the list"
        for accession in wanted.keys() & listed.keys():
            yield from _line(station, expected_line(wanted[accession]), listed[accession])
    for exam in day.exams:
        shown = list(seen.listings.get(exam.request.accession, [""]))
        if shown != exam.listings:
            told, planned = (" -> ".join(one or "off" for one in some) for some in (shown, exam.listings))
            yield f"{exam.request.accession}: the list showed {told} instead of {planned}"


def expected_line(request: Request) -> Listed:
    """The line that a scanner's list shows of ``request``."""
    patient, procedure = request.patient, request.procedure
    return Listed(
        accession=request.accession,
        patient_id=patient.id,
        name=f"{patient.family}^{patient.given}",
        study_uid=request.study_uid,
        procedure=procedure.text,
        modality=procedure.modality,
        station=procedure.station,
        day=request.start[:8],
        time=request.start[8:12],
    )


def _line(station: str, wanted: Listed, listed: Listed) -> Iterator[str]:
    for name in Listed.__slots__:
        if getattr(wanted, name) != getattr(listed, name):
            yield f"{station}: {wanted.accession} has another {name} than its order"


def _at_the_his(day: Day, seen: Seen) -> Iterator[str]:
    found: dict[str, list[Report]] = {}
    for report in seen.reports:
        found.setdefault(report.study_uid, []).append(report)
    for exam in day.exams:
        request, here = exam.request, found.pop(exam.request.study_uid, [])
        if len(here) != (exam.report is not None):
            yield f"HIS: {len(here)} reports of {request.accession} instead of {int(exam.report is not None)}"
            continue
        for report in here:
            assert exam.report is not None
            status, conclusion = exam.report
            if (report.status, report.patient_id) != (status, request.patient.id):
                yield f"HIS: the report of {request.accession} is {report.status}, not {status}"
            if conclusion not in report.text:
                yield f"HIS: the report of {request.accession} lacks its conclusion"
            statuses = [version for version, _ in report.versions]
            if "preliminary" in statuses[1:]:
                yield f"HIS: a late preliminary replaced the report of {request.accession}"
    for uid, some in found.items():
        yield f"HIS: {len(some)} reports of an unknown study {uid}"
