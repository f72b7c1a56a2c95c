"""Orders and appointments in any sequence of arrival leave the worklist that their own sequence leaves."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from bridge.model import AppointmentStatus, AppointmentUpdate, StepStatus, WorklistUpdate
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.worklist import query, scheduled

TIME, STATION = "ScheduledProcedureStepStartTime", "ScheduledStationAETitle"
OPEN = (StepStatus.SCHEDULED, StepStatus.WAITING)
ENGINE = create_engine("sqlite://", poolclass=StaticPool)
WORKLIST = Worklist(ENGINE)
metadata.create_all(ENGINE, tables=TABLES)
ORDER = ("placer:1^HIS", "filler:1^RIS")
Said = WorklistUpdate | AppointmentUpdate


def booked(appointment: str, hour: int) -> AppointmentUpdate:
    slot = {TIME: f"{hour:02}00", STATION: f"CT{hour}"}
    return AppointmentUpdate(ORDER[:1], appointment, AppointmentStatus.BOOKED, slot)


appointments = st.sampled_from(["AP1^S", "AP2^S"])
gone = st.sampled_from([AppointmentStatus.FREED, AppointmentStatus.OPEN])
messages = st.one_of(
    st.builds(lambda hour: scheduled(1, {TIME: f"{hour:02}30"}), st.integers(8, 18)),
    st.builds(booked, appointments, st.integers(8, 18)),
    st.builds(lambda name, status: AppointmentUpdate(ORDER[:1], name, status), appointments, gone),
    st.just(WorklistUpdate(ORDER, StepStatus.CANCELLED, known_only=True)),
)


def worklist(arriving: list[tuple[int, Said]]) -> list[Any]:
    """Each step's status, and what is listed of those that are open."""
    with ENGINE.begin() as tx:
        for table in TABLES:
            tx.execute(table.delete())
        for origin, said in arriving:
            if isinstance(said, AppointmentUpdate):
                WORKLIST.book(tx, said, origin)
            else:
                WORKLIST.apply(tx, said, origin)
    found = WORKLIST.find(query(), statuses=tuple(StepStatus))
    return [(item.status, item.attributes if item.status in OPEN else None) for item in found]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_comes_late_the_worklist_is_the_same(data: st.DataObject) -> None:
    said = [*enumerate(data.draw(st.lists(messages, min_size=1, max_size=6)), start=1)]
    arriving = data.draw(st.permutations(said))

    assert worklist(arriving) == worklist(said)
