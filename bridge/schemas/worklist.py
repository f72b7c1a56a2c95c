"""DICOM attributes as editors offer them in worklist mappings."""

from __future__ import annotations

from pydicom import datadict

from bridge.codecs.dicom_query import SUPPORTED
from bridge.mapping.targets.dicom import VALIDATORS, known
from bridge.mapping.targets.worklist import SPS, TYPE_1
from bridge.model import PATIENT_ATTRIBUTES
from bridge.schemas.lines import LINE
from bridge.schemas.parts import Json, said

_OF_A_STEP = ("Modality", "PreMedication", "RequestedContrastAgent", "CommentsOnTheScheduledProcedureStep")


def attribute_properties() -> Json:
    """The attributes that the worklist answers with (PS3.4 table K.6-1), by the name a mapping gives them."""
    names = dict.fromkeys((*TYPE_1, *PATIENT_ATTRIBUTES, *sorted(map(_placed, SUPPORTED))))
    return {name: said(_told(name), LINE) for name in names if _usable(name)}


def _placed(keyword: str) -> str:
    inside = keyword in _OF_A_STEP or (keyword.startswith("Scheduled") and keyword != SPS)
    return f"{SPS}.{keyword}" if inside else keyword


def _usable(name: str) -> bool:
    vr = known(name.rpartition(".")[2]).vr
    return vr in VALIDATORS or (vr == "SQ" and name != SPS)


def _told(name: str) -> str:
    keyword = name.rpartition(".")[2]
    needed = " Never empty in a worklist item (type 1)." if name in TYPE_1 else ""
    return f"{datadict.dictionary_description(keyword)} ({known(keyword).vr}).{needed}"
