"""The demo's site: a site file of its own with the mappings that ship, in a folder of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import bridge
from bridge.demo.cast import CT1, MR1
from bridge.demo.day import UNKNOWN_ROOM
from bridge.errors import BridgeError

NAME = "demo-group"
_SITE = """\
site: {{name: {name}, timezone: Europe/Paris}}
systems:
  ris:  {{adapter: ris}}
  pacs: {{adapter: pacs}}
  his:  {{adapter: his}}
  ct1:  {{adapter: modality, ae_title: {ct}}}
  mr1:  {{adapter: modality, ae_title: {mr}}}
channels:
  ris-in:   {{type: mllp-in, system: ris, listen: "127.0.0.1:{ris}"}}
  worklist:
    type: dicom-worklist
    listen: "127.0.0.1:{worklist}"
    ae_title: RADBRIDGE
    callers: {{{ct}: {{charset: ISO_IR 100}}}}
  pacs-out:
    type: mllp-out
    system: pacs
    connect: "127.0.0.1:{pacs}"
    lane: patient
    retry: {{first: 200ms, max: 1s}}
  his-fhir: {{type: fhir-out, system: his, base_url: "http://127.0.0.1:{his}"}}
routes:
  orders:
    from: ris-in
    when: {{message: [ORM^O01, OMI^O23]}}
    to: [{{worklist: order-to-worklist}}, {{pacs-out: pacs-order}}]
  reports:
    from: ris-in
    when: {{message: ORU^R01}}
    to: [pacs-out, {{his-fhir: report-to-fhir}}]
data: var
mappings: mappings
adapters: adapters
web: {{listen: "127.0.0.1:{web}"}}
log: {{level: info, format: json}}
"""
_STATIONS = f"""\
{NAME},CT,SALLE-CT,*,{CT1},CT-1
{NAME},MR,SALLE-MR,*,{MR1},MR-1
"""
_NEW_ROOM = f"{NAME},MR,{UNKNOWN_ROOM},*,{MR1},MR-1\n"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everybody listens on 127.0.0.1."""

    ris: int
    worklist: int
    pacs: int
    his: int
    web: int


def write_site(folder: Path, ports: Ports) -> Path:
    """Write the site file with its mappings and adapters into ``folder``; its path."""
    for name in ("mappings", "adapters"):
        shutil.copytree(shipped(name), folder / name)
    _add_stations(folder, _STATIONS)
    config = folder / "bridge.yaml"
    ends = {name: getattr(ports, name) for name in Ports.__slots__}
    config.write_text(_SITE.format(name=NAME, ct=CT1, mr=MR1, **ends), encoding="utf-8")
    return config


def know_the_new_room(folder: Path) -> None:
    """What the on-call person does about the room that no table knows."""
    _add_stations(folder, _NEW_ROOM)


def _add_stations(folder: Path, rows: str) -> None:
    table = folder / "mappings" / "tables" / "stations.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text + ("" if text.endswith("\n") else "\n") + rows, encoding="utf-8")


def shipped(name: str) -> Path:
    """A folder that comes with the package: beside it in a checkout, inside it when installed."""
    package = Path(bridge.__file__).parent
    for place in (package / "share" / name, package.parent / name):
        if place.is_dir():
            return place
    raise BridgeError(f"the folder {name} that comes with Radbridge is missing", fix="reinstall it")
