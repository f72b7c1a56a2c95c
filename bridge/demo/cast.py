"""Who plays: two practices, one site with a CT and an MR, and patients that nobody could take for real ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

DAY = date(2030, 6, 5)
"""The day that is played, and the next one."""
NEXT_DAY = date(2030, 6, 6)
SITE = "IMAGERIE-DU-PORT"
UID_ROOT = "1.2.826.0.1.3680043.9.9999"


@dataclass(frozen=True, slots=True)
class Practice:
    """Sends its orders through its own RIS."""

    name: str
    facility: str
    """MSH-4."""
    prefix: str
    """Of all its numbers."""
    charset: str
    """MSH-18 (HL7 table 0211)."""
    codec: str
    order_type: str
    """ORM^O01 names no station: a table finds it. OMI^O23 names it in IPC-9."""


PORT = Practice("Cabinet du Port", "CABINET-PORT", "P", "UNICODE UTF-8", "utf-8", "ORM^O01")
HALLES = Practice("Cabinet des Halles", "CABINET-HALLES", "H", "8859/1", "latin-1", "OMI^O23")
PRACTICES = (PORT, HALLES)


@dataclass(frozen=True, slots=True)
class Patient:
    id: str
    family: str
    given: str
    born: str
    """yyyymmdd."""
    sex: str


@dataclass(frozen=True, slots=True)
class Procedure:
    code: str
    text: str
    modality: str
    station: str
    """AE title of the scanner that does it."""
    room: str


CT1, MR1 = "CT1", "MR1"
STATIONS = (CT1, MR1)
PROCEDURES = (
    Procedure("CTTHX", "Scanner du thorax", "CT", CT1, "SALLE-CT"),
    Procedure("CTCRA", "Scanner du crâne sans injection", "CT", CT1, "SALLE-CT"),
    Procedure("CTABD", "Scanner abdomino-pelvien", "CT", CT1, "SALLE-CT"),
    Procedure("MRENC", "IRM de l'encéphale", "MR", MR1, "SALLE-MR"),
    Procedure("MRGEN", "IRM du genou droit", "MR", MR1, "SALLE-MR"),
    Procedure("MRLOM", "IRM du rachis lombaire", "MR", MR1, "SALLE-MR"),
)
FAMILIES = ("EXEMPLE", "MODÈLE", "ESSAI", "FICTIF", "DÉMO", "TESTEUR", "SPÉCIMEN", "MAQUETTE")
GIVENS = ("ALICE", "BENOÎT", "CHLOÉ", "DAMIEN", "ÉLODIE", "FRANÇOIS", "GAËLLE", "HÉLÈNE", "INÈS", "JOËL", "LÉA", "ZOÉ")
