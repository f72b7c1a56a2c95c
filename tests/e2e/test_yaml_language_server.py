"""The schemas in the language server that editors use for YAML: it underlines, completes and explains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.schemas import KINDS
from tests.rigs.lsp import Editor, editor
from tests.rigs.need import REPOSITORY

Wrong = list[tuple[int, str]]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's folder with its schemas, as the command writes them."""
    folder = tmp_path_factory.mktemp("site") / ".schemas"
    result = CliRunner().invoke(app, ["schema", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


async def opened(session: Editor, schemas: Path, kind: str, text: str, name: str = "some.yaml") -> tuple[Path, Wrong]:
    """A file of a site in an editor: its path, and (line, message) of what is underlined; lines as in ``text``."""
    path = schemas.parent / name
    wrong = await session.open(path, f"# yaml-language-server: $schema=.schemas/{kind}.schema.json\n{text}")
    return path, [(one["range"]["start"]["line"], one["message"]) for one in wrong]


SITE = """\
site: {name: test-site, timezone: Europe/Paris}
channels:
  ris-in:
    type: mllp-in
    listen: ${RADBRIDGE_LISTEN:-127.0.0.1}:2575
    validat: warn
    identity: perhaps
  pacs-out: {type: mlp-out, connect: 127.0.0.1:2576}
routes:
  orders: {from: ris-in, when: {message: orm}, too: pacs-out}
"""
WORKLIST = """\
target: worklist
messages: [ORM^O01]
order:
  identifiers: {placer: ORC-2}
  status: {from: ORC-1, tabel: order-status}
step: {each: [OBR, IPC]}
PatientName: {from: PID-5, as: person_nam}
PatientID: {from: PID-3, as: patient_id, isuer: HOSP}
accession: OBR-18
"""
FHIR = """\
target: fhir
messages: [ORU^R01]
resources:
  - resource: Patient
    write: creat
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set:
      gendre: PID-8
      name[0].family: PID-5.1
"""
EDIT = """\
target: hl7v2
messages: [ORM^O01]
edits:
  - wen: {PV1-2: E}
    set: {PID3: PID-4}
"""
COMPOSED = """\
target: hl7v2
messages: [ORM^O01]
message:
  - {segment: MSH, from: MSH}
  - {segment: OBR, form: OBR}
"""
PROFILE = """\
profile: Orders
messages: [ORM^O01]
rules:
  - requir: [PID-3]
"""
CASES = """\
- name: one
  given: samples/x.hl7
  expects: {A: B}
"""
ADAPTER = """\
title: A RIS
channels:
  mllp-in: {charst: 8859/15}
"""


MISTAKES: list[tuple[str, str, Wrong]] = [
    ("site", SITE, [(6, "validat"), (7, "boolean"), (8, "mllp-out"), (10, "ORM^O01"), (10, "too")]),
    ("mapping", WORKLIST, [(5, "tabel"), (7, "person_name"), (8, "isuer"), (9, "accession")]),
    ("mapping", FHIR, [(5, "create"), (8, "gendre")]),
    ("mapping", EDIT, [(4, "wen"), (5, "PID-3.1")]),
    ("mapping", COMPOSED, [(5, "form")]),
    ("mapping", PROFILE, [(4, "requir")]),
    ("profile", PROFILE, [(4, "requir")]),
    ("cases", CASES, [(3, "expects")]),
    ("adapter", ADAPTER, [(3, "charst")]),
]


async def test_a_mistake_is_underlined_at_its_line(schemas: Path) -> None:
    missed = []

    async with editor() as session:
        for number, (kind, text, wrong) in enumerate(MISTAKES):
            _, found = await opened(session, schemas, kind, text, f"{number}.yaml")
            missed += [one for one in wrong if not any(line == one[0] and one[1] in said for line, said in found)]
            assert sorted(line for line, _ in found) == [line for line, _ in wrong]

    assert missed == []


async def test_whatever_a_variable_may_stand_for_is_not_underlined(schemas: Path) -> None:
    site = """\
site: {name: "${NAME}", timezone: "${ZONE:-Europe/Paris}"}
broker: {url: "${BROKER}"}
log: {level: "${LEVEL:-info}"}
retention: {days: "${DAYS:-90}"}
channels:
  worklist: {type: dicom-worklist, listen: "${LISTEN}", ae_title: "${THE_AE_TITLE_OF_OURS}"}
  his: {type: fhir-out, base_url: "${FHIR_SERVER}"}
  ris: {type: mllp-in, listen: "127.0.0.1:2575", max_size: 32MB, identity: "${OWNS}", idle_timeout: 5m}
routes: {}
"""

    async with editor() as session:
        _, wrong = await opened(session, schemas, "site", site)

    assert wrong == []


async def test_channel_types_settings_and_functions_are_offered_and_explained(schemas: Path) -> None:
    site = "channels:\n  inbox:\n    type: \n  ris-in:\n    type: mllp-in\n    \nroutes: {}\n"
    mapping = "target: worklist\nPatientName:\n  from: PID-5\n  as: \nPatientSex:\n  as: person_name\n  \n"

    async with editor() as session:
        path, _ = await opened(session, schemas, "site", site, "site.yaml")
        kinds = await session.completions(path, 3, 10)
        settings = await session.completions(path, 6, 4)
        about = await session.hover(path, 5, 12)
        path, _ = await opened(session, schemas, "mapping", mapping, "mapping.yaml")
        functions = await session.completions(path, 4, 6)
        options = await session.completions(path, 7, 2)
        explained = await session.hover(path, 6, 8)

    assert {"mllp-in", "mllp-out", "dicom-worklist"} <= set(kinds)
    assert {"listen", "charset", "validate"} <= set(settings) and "connect" not in settings
    assert "mllp" in about and "acknowledgement" in about
    assert {"person_name", "local_date", "code_items"} <= set(functions)
    assert {"from", "unusable", "types"} <= set(options) and "by" not in options
    assert "as DICOM PN" in explained


def shipped() -> Iterator[tuple[str, Path]]:
    for kind in ("site", "adapter", "mapping"):
        for path in sorted(REPOSITORY.glob(KINDS[kind][0])):
            yield "cases" if path.name.endswith(".cases.yaml") else kind, path


async def test_every_shipped_file_is_right(schemas: Path) -> None:
    underlined = {}

    async with editor() as session:
        for kind, path in shipped():
            uri = (schemas / f"{kind}.schema.json").as_uri()
            text = f"# yaml-language-server: $schema={uri}\n{path.read_text(encoding='utf-8')}"
            if wrong := await session.open(path, text):
                underlined[path.name] = [one["message"] for one in wrong]

    assert underlined == {}
