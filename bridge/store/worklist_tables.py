"""The worklist's tables: orders with their identifiers, steps with what they are searched by, stations.

Texts compare by code point on both databases, so that a prefix is a range of an index.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, UniqueConstraint

from bridge.store.schema import metadata

ROW = BigInteger().with_variant(Integer, "sqlite")
KEY = Text().with_variant(Text(collation="C"), "postgresql")
STATUS = String(12)

order = Table(
    "worklist_order",
    metadata,
    Column("id", ROW, primary_key=True),
    Column("origin", BigInteger, nullable=False),
)
"""An Imaging Service Request; ``origin`` of the update that first spoke of it."""

identifier = Table(
    "worklist_identifier",
    metadata,
    Column("identifier", KEY, primary_key=True),
    Column("order_id", ROW, primary_key=True),
    Index(None, "order_id"),
)
"""By what an order is known: ``placer:number^issuer``, ``filler:...``, ``accession:...``."""

note = Table(
    "worklist_note",
    metadata,
    Column("order_id", ROW, primary_key=True),
    Column("study_uid", KEY, primary_key=True),
    Column("step_id", KEY, primary_key=True),
    Column("status", STATUS, nullable=False),
    Column("origin", BigInteger, nullable=False),
)
"""A status that was said of steps not here (yet): it also holds for those of older origin that come later. An empty
UID or step id stands for any."""

item = Table(
    "worklist_item",
    metadata,
    Column("id", ROW, primary_key=True),
    Column("order_id", ROW, nullable=False),
    Column("study_uid", KEY, nullable=False),
    Column("step_id", KEY, nullable=False),
    Column("status", STATUS, nullable=False),
    Column("status_origin", BigInteger, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("patient_origin", BigInteger, nullable=False),
    Column("name", KEY, nullable=False),
    Column("name_ideographic", KEY, nullable=False),
    Column("name_phonetic", KEY, nullable=False),
    Column("patient_id", KEY, nullable=False),
    Column("accession", KEY, nullable=False),
    Column("procedure_id", KEY, nullable=False),
    Column("modality", KEY, nullable=False),
    Column("start_date", KEY, nullable=False),
    Column("start_time", KEY, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("ordered", Text, nullable=False),
    UniqueConstraint("order_id", "study_uid", "step_id", name="uq_worklist_item_step"),
    Index("ix_worklist_item_open", "status", "start_date", "start_time"),
    Index("ix_worklist_item_modality", "modality", "start_date"),
    Index(None, "name"),
    Index(None, "name_ideographic"),
    Index(None, "name_phonetic"),
    Index(None, "patient_id"),
    Index(None, "accession"),
    Index(None, "study_uid"),
)
"""A Scheduled Procedure Step. ``attributes`` is the whole item as JSON, ``version`` a digest of it; the other texts are
what it is found by: names folded and per component group, the date ``yyyymmdd``, the time ``hhmmssffffff``. ``origin``,
``patient_origin`` and ``status_origin`` tell how new the order's attributes, the patient's and the status are;
``waiting`` is a step that its order scheduled and its appointment took off. ``ordered`` is the step as the order said
it (JSON), where an appointment says otherwise; else empty."""

appointment = Table(
    "worklist_appointment",
    metadata,
    Column("order_id", ROW, primary_key=True),
    Column("appointment", KEY, primary_key=True),
    Column("service", KEY, primary_key=True),
    Column("status", STATUS, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False),
)
"""What the newest message of an appointment says of each service; it also holds for steps that come later.
``attributes`` of the step as JSON."""

station = Table(
    "worklist_station",
    metadata,
    Column("ae_title", KEY, primary_key=True),
    Column("start_date", KEY, primary_key=True),
    Column("item", ROW, primary_key=True),
    Index(None, "item"),
)
"""The stations that a step is scheduled for, with its date."""

performed = Table(
    "worklist_performed",
    metadata,
    Column("instance", String(64), primary_key=True),
    Column("study", KEY, primary_key=True),
    Column("accession", KEY, primary_key=True),
    Column("step", KEY, primary_key=True),
    Column("status", STATUS, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("item", ROW, index=True),
    Index(None, "study"),
    Index(None, "accession"),
)
"""What each performed step (SOP Instance UID) says of a scheduled one, and which that is; none while no order has it.
One performed step may be for several scheduled ones (group case), and several for one (append case)."""

TABLES = (order, identifier, note, item, appointment, station, performed)
