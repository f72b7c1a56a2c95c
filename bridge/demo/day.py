"""The plot: one day of a small radiology group, made from a seed. Pure; :mod:`bridge.demo.stage` plays it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from bridge.demo import cast
from bridge.demo.cast import DAY, NEXT_DAY, PORT, PRACTICES, UID_ROOT, Patient, Practice, Procedure
from bridge.demo.hl7 import Request, Sent, order, report, resent

OPENS, CLOSES = 7 * 60 + 30, 18 * 60 + 30
"""Minutes from midnight."""
DOWN, UP = 11 * 60, 12 * 60
"""When the PACS goes away and when it is back."""
UNKNOWN_ROOM = "SALLE-MR-NEUVE"
"""A room that the table of stations does not know until the on-call person adds it."""
OFF = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that happens, at ``at`` (minutes from midnight)."""

    at: int
    says: str
    message: Sent | None = None
    """What the RIS sends; None: the scanner takes the exam from its list and does it."""
    listed: str | None = None
    """What the scanner's list of the day shows afterwards: hhmm, or OFF; None: the same as before."""
    is_report: bool = False


@dataclass(slots=True)
class Exam:
    """One exam: who, what, and its scenes in sequence."""

    request: Request
    plot: str
    scenes: list[Scene] = field(default_factory=list)
    final: Request | None = None
    """As it stands on some day's list in the end; None: on none."""
    report: tuple[str, str] | None = None
    """Status and conclusion that the HIS shows in the end."""

    @property
    def messages(self) -> list[Sent]:
        """What its RIS sends, in sequence; a resent message comes again."""
        return [scene.message for scene in self.scenes if scene.message is not None]

    @property
    def listings(self) -> list[str]:
        """What the scanner's list of the day shows of it, in sequence, beginning with OFF."""
        found = [OFF]
        for scene in self.scenes:
            if scene.listed is not None and scene.listed != found[-1]:
                found.append(scene.listed)
        return found


@dataclass(frozen=True, slots=True)
class Day:
    seed: int
    exams: tuple[Exam, ...]

    @property
    def puzzles(self) -> int:
        """Dead letters that the on-call person will find."""
        return sum(exam.plot in ("unknown room", "number too long") for exam in self.exams)


class _Writer:
    """Writes the scenes of one exam. Every message gets the next control id."""

    def __init__(self, exam: Exam, ids: Iterator[str]) -> None:
        self.exam, self.request, self._ids = exam, exam.request, ids

    def order(self, at: int, control: str, status: str, says: str, listed: str | None = None) -> None:
        message = order(self.request, control, status, next(self._ids), at)
        self.exam.scenes.append(Scene(at, says, message=message, listed=listed))

    def new(self, at: int, says: str = "ordered") -> None:
        here = self.request.day == DAY
        self.order(at, "NW", "SC", says, _clock(self.request.minute) if here else None)

    def move(self, at: int, minute: int) -> None:
        self.request = self.request.at(minute, DAY)
        clock = _clock(minute)
        self.order(at, "XO", "SC", f"moved to {clock[:2]}:{clock[2:]}", clock)

    def perform(self, at: int) -> None:
        self.exam.scenes.append(Scene(at, f"done on {self.request.procedure.station}"))
        self.order(at + 2, "SC", "IP", "started")
        self.order(at + 20, "SC", "CM", "completed", OFF)

    def report(self, at: int, status: str, says: str, counts: bool = True) -> None:
        conclusion = f"{says.capitalize()} : pas d'anomalie décelée sur l'examen {self.request.number}."
        lines = [f"Indication : contrôle. Technique : {self.request.procedure.text}.", "Résultat : examen inventé."]
        message = report(self.request, status, lines, conclusion, next(self._ids), at)
        self.exam.scenes.append(Scene(at, f"report {says}", message=message, is_report=True))
        if counts:
            self.exam.report = (says, conclusion)

    def again(self, at: int, says: str) -> None:
        """The last message once more."""
        self.exam.scenes.append(Scene(at, says, message=resent(self.exam.messages[-1], at)))

    def stays(self) -> None:
        """It is still on a list when the day ends."""
        self.exam.final = self.request


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}{minute % 60:02d}"


# the plots: what can happen to an exam; ``start`` is its planned time


def _plain(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.perform(start)
    w.report(start + 35, "P", "preliminary")
    w.report(start + 60, "F", "final")


def _moved(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.move(start - 45, start + 40)
    w.perform(start + 40)
    w.report(start + 80, "F", "final")


def _put_off(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.request = w.request.at(start, NEXT_DAY)
    w.order(start - 30, "XO", "SC", "moved to tomorrow", OFF)
    w.stays()


def _brought_forward(w: _Writer, start: int) -> None:
    w.request = w.request.at(start, NEXT_DAY)
    w.new(start - 90, "ordered for tomorrow")
    w.move(start - 40, start)
    w.perform(start)
    w.report(start + 50, "F", "final")


def _renamed(w: _Writer, start: int) -> None:
    w.new(start - 90)
    patient = w.request.patient
    w.request = replace(w.request, patient=replace(patient, given=f"{patient.given}-ANNE"))
    w.order(start - 40, "XO", "SC", "name corrected")
    w.stays()


def _cancelled(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.order(start - 20, "CA", "CA", "cancelled", OFF)


def _cancelled_tersely(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.order(start - 20, "CA", "", "cancelled (ORC-5 empty)", OFF)


def _absent(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.stays()


def _corrected(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.perform(start)
    w.report(start + 30, "P", "preliminary")
    w.report(start + 50, "F", "final")
    w.report(start + 80, "C", "corrected")


def _late_preliminary(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.perform(start)
    w.report(start + 40, "F", "final")
    w.report(start + 70, "P", "preliminary", counts=False)


def _sent_twice(w: _Writer, start: int) -> None:
    w.new(start - 90)
    w.again(start - 80, "order sent again")
    w.perform(start)
    w.report(start + 40, "F", "final")
    w.again(start + 55, "report sent again")


def _unknown_room(w: _Writer, start: int) -> None:
    w.request = replace(w.request, room=UNKNOWN_ROOM)
    w.new(start - 90, "ordered for a room that no table knows")
    w.perform(start)
    w.report(start + 40, "F", "final")


def _number_too_long(w: _Writer, start: int) -> None:
    right = w.request
    w.request = replace(right, accession=f"{right.accession}-TOO-LONG-FOR-DICOM")
    w.order(start - 90, "NW", "SC", "ordered with a number that is too long")
    w.request = right
    w.new(start - 60, "ordered again with the right number")
    w.perform(start)
    w.report(start + 40, "F", "final")


_PLOTS: dict[str, Callable[[_Writer, int], None]] = {
    "plain": _plain,
    "moved": _moved,
    "put off": _put_off,
    "brought forward": _brought_forward,
    "renamed": _renamed,
    "cancelled": _cancelled,
    "cancelled tersely": _cancelled_tersely,
    "absent": _absent,
    "corrected": _corrected,
    "late preliminary": _late_preliminary,
    "sent twice": _sent_twice,
    "unknown room": _unknown_room,
    "number too long": _number_too_long,
}
_ONCE = ("unknown room", "number too long")
LEAST = len(_PLOTS)
"""Exams of the shortest day: every plot once."""


def make_day(seed: int, exams: int) -> Day:
    """The day that ``seed`` makes, with ``exams`` exams (at least :data:`LEAST`): the same each time."""
    chance = random.Random(seed)
    others = [name for name in _PLOTS if name not in _ONCE]
    plots = list(_PLOTS) + [chance.choice(others) for _ in range(max(exams, LEAST) - LEAST)]
    chance.shuffle(plots)
    people = _people(chance, len(plots))
    cases = zip(plots, people, strict=True)
    return Day(seed, tuple(_exam(chance, number, plot, person) for number, (plot, person) in enumerate(cases, 1)))


def _people(chance: random.Random, count: int) -> list[Patient]:
    """So many patients; about one in five comes twice."""
    names = [(family, given) for family in cast.FAMILIES for given in cast.GIVENS]
    chance.shuffle(names)
    known = []
    for number in range(1, max(2, count * 5 // 6) + 1):
        born = f"19{chance.randrange(40, 99)}0{number % 9 + 1}15"
        known.append(Patient(f"PAT{number:05d}", *names[number % len(names)], born, "FM"[number % 2]))
    again = [chance.choice(known) for _ in range(count - len(known))]
    people = known + again
    chance.shuffle(people)
    return people


def _exam(chance: random.Random, number: int, plot: str, patient: Patient) -> Exam:
    practice: Practice = chance.choice(PRACTICES)
    choice: tuple[Procedure, ...] = cast.PROCEDURES
    if plot == "unknown room":
        practice, choice = PORT, tuple(one for one in choice if one.modality == "MR")
    procedure: Procedure = chance.choice(choice)
    start = chance.randrange(OPENS + 95, CLOSES - 150, 5)
    name = f"{practice.prefix}{number:04d}"
    request = Request(
        number=name,
        practice=practice,
        patient=patient,
        procedure=procedure,
        accession=f"A{name}",
        study_uid=f"{UID_ROOT}.{number}",
        day=DAY,
        minute=start,
    )
    exam = Exam(request, plot)
    ids = (f"{name}-{count:02d}" for count in range(1, 100))
    _PLOTS[plot](_Writer(exam, ids), start)
    return exam
