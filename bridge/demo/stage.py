"""The stage: the simulated systems around the real engine, and the day played on them in quick motion."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bridge.demo.cast import DAY, PRACTICES, STATIONS
from bridge.demo.check import Seen
from bridge.demo.day import CLOSES, DOWN, OFF, OPENS, UP, Day, Exam, Scene
from bridge.demo.engine import Engine, free_port
from bridge.demo.his import His
from bridge.demo.hl7 import Sent
from bridge.demo.modality import Modality
from bridge.demo.oncall import OnCall
from bridge.demo.pacs import Pacs
from bridge.demo.ris import Ris
from bridge.demo.site import Ports, write_site

PATIENCE = 30.0
"""Real seconds, besides the day's own, in which anything that must happen has to happen."""
LOOK = 0.2
"""Real seconds between two looks of a scanner at its list, and of anybody at anything."""


class Clock:
    """The day's time: from OPENS to CLOSES in ``seconds`` of real time."""

    def __init__(self, seconds: float) -> None:
        self._per_minute = seconds / (CLOSES - OPENS)
        self._began = time.monotonic()

    @property
    def minute(self) -> int:
        """Minutes from midnight."""
        return OPENS + int((time.monotonic() - self._began) / self._per_minute)

    async def until(self, minute: int) -> None:
        await asyncio.sleep(self._began + (minute - OPENS) * self._per_minute - time.monotonic())


@dataclass(slots=True)
class Story:
    """One exam as it was lived: what happened when, with the real seconds that the engine took."""

    exam: Exam
    parts: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        request = self.exam.request
        patient = f"{request.patient.family} {request.patient.given}"
        return f"{request.procedure.modality} {request.accession} {patient:<20} " + " > ".join(self.parts)


class Stage:
    """A day's simulated systems and its engine, in ``folder``: :meth:`set_up`, :meth:`play`, and :meth:`seen`."""

    def __init__(self, day: Day, folder: Path, pacs: Pacs, seconds: float, patience: float = PATIENCE) -> None:
        self.day, self.pacs, self.his = day, pacs, His()
        self.rises: dict[str, Ris] = {}
        self._folder, self._seconds, self._patience = folder, seconds, patience
        self.stories = {exam.request.number: Story(exam) for exam in day.exams}
        self.failures: list[str] = []
        """What did not happen in time."""
        self.most_waiting = 0
        """Most messages that waited for the PACS at once."""
        self._clock: Clock | None = None
        self._shown: dict[str, list[str]] = {}
        """Accession number -> what the scanner's list of the day showed of it."""

    @contextlib.asynccontextmanager
    async def set_up(self) -> AsyncIterator[None]:
        """Start everything; stop it all at the end."""
        await self.pacs.start()
        await self.his.start()
        ports = Ports(free_port(), free_port(), self.pacs.port, self.his.port, free_port())
        config = write_site(self._folder, ports)
        self.engine = Engine(config, self._folder / "engine.log")
        self.on_call = OnCall(config)
        self.rises = {practice.name: Ris(ports.ris) for practice in PRACTICES}
        self._modalities = {station: Modality(station, ports.worklist) for station in STATIONS}
        self.engine.start()
        try:
            for port in (ports.ris, ports.worklist):
                await asyncio.to_thread(self.engine.wait_for, port)
            yield
        finally:
            for ris in self.rises.values():
                await ris.close()
            await asyncio.to_thread(self.engine.stop)
            await self.his.stop()
            await self.pacs.stop()

    @property
    def minute(self) -> int:
        """The day's time, minutes from midnight."""
        return self._clock.minute if self._clock else OPENS

    @property
    def note(self) -> str:
        """What there is to say now."""
        answered = {name for ris in self.rises.values() for name, told in ris.told.items() if told.codes}
        if self.pacs.up:
            return f"{len(answered)} messages"
        waiting = len(answered - self.pacs.ids)
        self.most_waiting = max(self.most_waiting, waiting)
        return f"{len(answered)} messages; the PACS is down, {waiting} wait for it"

    async def play(self, told: Callable[[Story], None]) -> None:
        """Live through the day; each exam's story is ``told`` when its last message has arrived."""
        self._clock = Clock(self._seconds)
        watching = [asyncio.create_task(self._watch(modality)) for modality in self._modalities.values()]
        others = [asyncio.create_task(self._outage()), asyncio.create_task(self._on_call())]
        try:
            await asyncio.gather(*(self._live(exam, told) for exam in self.day.exams))
            await asyncio.gather(*others)
            await self._settle()
        finally:
            for task in (*watching, *others):
                task.cancel()
            await asyncio.gather(*watching, *others, return_exceptions=True)

    async def seen(self) -> Seen:
        """What is at the ends now."""
        lists = {station: await asyncio.to_thread(one.ask) for station, one in self._modalities.items()}
        state = await self.on_call.state()
        owed = [f"{lane['destination']}: {lane['pending']} pending, {lane['dead']} dead" for lane in state["lanes"]]
        return Seen(
            told={name: told for ris in self.rises.values() for name, told in ris.told.items()},
            arrivals=list(self.pacs.arrivals),
            lists=lists,
            listings=self._shown,
            reports=self.his.reports(),
            undelivered=owed,
        )

    # the people and machines of the day

    async def _until(self, minute: int) -> None:
        assert self._clock is not None
        await self._clock.until(minute)

    async def _watch(self, modality: Modality) -> None:
        """A scanner that looks at its list of the day again and again."""
        mine: set[str] = set()
        while True:
            listed = await asyncio.to_thread(modality.ask, DAY)
            for accession in mine | listed.keys():
                state = listed[accession].time if accession in listed else OFF
                shown = self._shown.setdefault(accession, [OFF])
                if shown[-1] != state:
                    shown.append(state)
            mine |= listed.keys()
            await asyncio.sleep(LOOK)

    async def _outage(self) -> None:
        """The PACS dies in the middle of a message, and is started again an hour later."""
        await self._until(DOWN)
        self.pacs.die_before_the_next_answer()
        while self.pacs.up and self.minute < (DOWN + UP) // 2:
            await asyncio.sleep(LOOK / 4)
        await self.pacs.stop()
        await self._until(UP)
        await self.pacs.start()

    async def _on_call(self) -> None:
        """Looks at the dead letters now and then until every puzzle of the day is solved."""
        solved, end = 0, time.monotonic() + self._seconds + self._patience
        while solved < self.day.puzzles and time.monotonic() < end:
            await asyncio.sleep(1.0)
            solved += await self.on_call.look()

    async def _live(self, exam: Exam, told: Callable[[Story], None]) -> None:
        story = self.stories[exam.request.number]
        for scene in exam.scenes:
            await self._until(scene.at)
            story.parts.append(f"{clock_text(scene.at)} {scene.says}{await self._play_scene(exam, scene)}")
        wanted = {message.control_id for message in exam.messages}
        await self._happens(
            lambda: wanted <= self.pacs.ids, f"{exam.request.accession}: not all of it reached the PACS"
        )
        if exam.report:
            failure = f"{exam.request.accession}: the HIS does not show its report as {exam.report[0]}"
            await self._happens(lambda: self._at_the_his(exam), failure)
        for number, scene in enumerate(exam.scenes):
            if scene.is_report and scene.message:
                story.parts[number] += self._journey(exam, scene.says, scene.message)
        told(story)

    async def _play_scene(self, exam: Exam, scene: Scene) -> str:
        """Do it, and wait until the scanner's list shows it; what can be told of that."""
        accession, station = exam.request.accession, exam.request.procedure.station
        if scene.message is None:
            if self._on_list(accession) == OFF:
                self.failures.append(
                    f"{accession}: {station} wants to begin at {clock_text(scene.at)}, but does not find it"
                )
            return ""
        await self.rises[exam.request.practice.name].send(scene.message)
        if scene.listed is None:
            return ""
        began, off = time.monotonic(), scene.listed == OFF
        failure = f"{accession}: {scene.says} at {clock_text(scene.at)}, but {station}'s list does not show it"
        await self._happens(lambda: self._on_list(accession) == scene.listed, failure)
        return f" ({'off' if off else 'on'} {station}'s list {_after(time.monotonic() - began)})"

    def _on_list(self, accession: str) -> str:
        return self._shown.get(accession, [OFF])[-1]

    def _journey(self, exam: Exam, says: str, message: Sent) -> str:
        """How long a report took to the PACS and to the HIS."""
        answered = self.rises[exam.request.practice.name].told[message.control_id].answered
        arrived = min(one.at for one in self.pacs.arrivals if one.control_id == message.control_id)
        versions = [
            at
            for report in self.his.reports()
            if report.study_uid == exam.request.study_uid
            for status, at in report.versions
            if f"report {status}" == says
        ]
        his = f"HIS {_after(versions[0] - answered)}" if versions else "HIS keeps what it has"
        return f" (PACS {_after(arrived - answered)}, {his})"

    def _at_the_his(self, exam: Exam) -> bool:
        """The HIS shows the report of ``exam`` as it should in the end."""
        shown = [report.status for report in self.his.reports() if report.study_uid == exam.request.study_uid]
        return exam.report is not None and shown == [exam.report[0]]

    async def _settle(self) -> None:
        """Wait until the engine owes nothing."""
        end = time.monotonic() + self._patience
        while (await self.on_call.state())["lanes"] and time.monotonic() < end:
            await asyncio.sleep(LOOK)

    async def _happens(self, ready: Callable[[], bool], failure: str) -> None:
        """Return when ``ready()``; note ``failure`` if that takes too long."""
        end = time.monotonic() + self._seconds + self._patience
        while not ready():
            if time.monotonic() > end:
                self.failures.append(failure)
                return
            await asyncio.sleep(LOOK / 4)


def _after(seconds: float) -> str:
    return f"+{seconds:.1f} s" if seconds >= 1 else f"+{max(0, round(seconds * 1000))} ms"


def clock_text(minute: int) -> str:
    """hh:mm."""
    return f"{minute // 60:02d}:{minute % 60:02d}"
