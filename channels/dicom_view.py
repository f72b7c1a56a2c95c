"""What a calling AE sees of the worklist, and how it is told: the settings of one scanner's profile."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

from bridge.codecs.dicom import TYPE_1, UnfitPolicy, entry, problems
from bridge.codecs.dicom_match import texts
from bridge.codecs.dicom_query import Query, restriction
from bridge.codecs.dicom_stations import NOBODY_MOVES, Stations
from bridge.codecs.dicom_text import charset, is_charset
from bridge.model import StepStatus
from channels.dicom_association import AETitle

_STEP = "ScheduledProcedureStepSequence"
_NEVER_CUT = frozenset(
    """
    PatientID IssuerOfPatientID AccessionNumber RequestedProcedureID ScheduledProcedureStepID AdmissionID
    PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest ScheduledStationAETitle
    """.split()  # noqa: SIM905 - a table reads better
)
"""Text by which things are told apart: cut, it would name another."""


def _charset(text: str) -> str:
    if not is_charset(text):
        raise ValueError("write a DICOM character set, for example ISO_IR 192 (UTF-8) or ISO_IR 100 (Latin-1)")
    return charset(text)


def _attribute(path: str) -> str:
    names = path.split(".")
    if len(names) > 2 or (len(names) == 2 and names[0] != _STEP) or not all(map(entry, names)):
        raise ValueError(f"write a keyword of PS3.6, for example PatientComments or {_STEP}.PreMedication")
    return path


def _optional(path: str) -> str:
    if tuple(path.split(".")) in TYPE_1 or path == _STEP:
        raise ValueError("a scanner may rely on this attribute (type 1, PS3.4 table K.6-1)")
    return path


def _may_be_cut(path: str) -> str:
    keyword = path.rpartition(".")[2]
    known = entry(keyword)
    if known is None or known[1] not in ("LO", "LT", "PN", "SH", "ST", "UT") or keyword in _NEVER_CUT:
        raise ValueError("only text can be shortened, and no identifier")
    return path


Charset = Annotated[str, AfterValidator(_charset)]
Attribute = Annotated[str, AfterValidator(_attribute)]


class View(BaseModel):
    """What a calling AE sees, and in which form."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    charset: Charset = "ISO_IR 192"
    """Specific character set of the answers."""
    unfit: UnfitPolicy = "refuse"
    """An item with a character that the set lacks: left out and reported, or spelled plainly (é -> e)."""
    stations: list[AETitle] = []
    """If given, only steps for these stations are shown, whatever the query asks for."""
    modalities: list[str] = []
    """If given, only steps of these modalities (CT, MR...)."""
    sites: list[str] = []
    """If given, only steps of these institutions (InstitutionName as it is in the items)."""
    statuses: list[StepStatus] = Field(default=[StepStatus.SCHEDULED, StepStatus.STARTED], min_length=1)
    """Steps of these statuses are shown."""
    days_back: int | None = Field(default=None, ge=0)
    """Steps of at most so many days ago; 0: from today on."""
    days_ahead: int | None = Field(default=None, ge=0)
    """Steps of at most so many days to come; 0: up to today."""
    carry_over: int = Field(default=0, ge=0)
    """Whoever asks for today also gets the steps of so many days before that are still open, each with its own date."""
    warn_unsupported: bool = True
    """Answer FF01 in place of FF00 where a key is asked for that is not served. Some consoles take FF01 for the end."""
    leave_out: list[Annotated[Attribute, AfterValidator(_optional)]] = []
    """Attributes that are never sent, also when they are asked for."""
    shorten: dict[Annotated[Attribute, AfterValidator(_may_be_cut)], Annotated[int, Field(ge=4)]] = {}
    """Text that is cut to so many characters; a name loses its suffix, prefix and middle name first."""
    add: dict[Attribute, str] = {}
    """What an attribute holds where the item says nothing, if it is asked for."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many items in one answer."""
    over_limit: Literal["stop", "refuse"] = "stop"
    """More matches than ``limit``: send the first ones and end with success (and an alert), or answer A700."""

    @model_validator(mode="after")
    def _adds_what_can_be_sent(self) -> Self:
        for path, value in self.add.items():
            for problem in problems({path.rpartition(".")[2]: value}):
                raise ValueError(f"{path}: {problem.what}; {problem.fix}")
        return self

    def restriction(self, today: date, stations: Stations = NOBODY_MOVES) -> Query:
        """What narrows every query of this caller. ``stations`` are as they are today: any title means the station."""
        first, last = (
            "" if days is None else (today + timedelta(days * sign)).strftime("%Y%m%d")
            for days, sign in ((self.days_back, -1), (self.days_ahead, 1))
        )
        titles = [stations.in_force.get(title, title) for title in self.stations]
        return restriction(titles, self.modalities, self.sites, first, last)

    @property
    def changes(self) -> bool:
        return bool(self.shorten or self.add)

    def adapted(self, attributes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """An item as this caller gets it, and which attributes were cut."""
        item = deepcopy(dict(attributes))
        cut = []
        for path, value in self.add.items():
            place, keyword = _place(item, path)
            if not texts(place.get(keyword)):
                place[keyword] = value
        for path, most in self.shorten.items():
            place, keyword = _place(item, path)
            values = texts(place.get(keyword))
            short = [_cut(value, most, name=entry(keyword)[1] == "PN") for value in values]  # type: ignore[index]
            if short != values:
                place[keyword] = short
                cut.append(path)
        return item, cut


class Caller(View):
    """What one modality sees, where it differs from what all see."""

    hosts: list[IPvAnyNetwork] = []
    """From where it may call: addresses and networks; empty: anywhere."""


def _place(item: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The data set that holds the attribute, and its keyword."""
    sequence, _, keyword = path.rpartition(".")
    steps = item.get(sequence) or [{}]
    return (steps[0], keyword) if sequence else (item, keyword)


def _cut(value: str, most: int, *, name: bool) -> str:
    return "=".join(_cut_name(group, most) for group in value.split("=")) if name else value[:most].rstrip()


def _cut_name(group: str, most: int) -> str:
    parts = group.split("^")
    while len("^".join(parts)) > most and len(parts) > 2:
        parts.pop()
    return "^".join(parts)[:most].rstrip("^ ")
