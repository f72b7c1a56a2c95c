"""Every shipped adapter: it loads, says where its facts come from, and its settings are settings."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.errors import Finding
from bridge.ports import channel_type
from bridge.settings import Overrides, from_files
from bridge.settings.model import Adapter
from bridge.settings.validation import read
from bridge.yamlfile import load
from tests.rigs.need import REPOSITORY

ADAPTERS = {path.stem: path for path in sorted((REPOSITORY / "adapters").glob("*.yaml"))}
ROLES = ("ris", "his", "pacs", "vna", "modality", "portal", "teleradiology", "billing", "dosimetry", "ai", "warehouse")
PRODUCTS = ("dcm4chee-arc", "mirth", "orthanc")
NEEDED: dict[str, dict[str, Any]] = {
    "mllp-in": {"listen": "127.0.0.1:0"},
    "mllp-out": {"connect": "127.0.0.1:1"},
    "fhir-out": {"base_url": "http://127.0.0.1/fhir"},
    "file-in": {"folder": "in"},
    "file-out": {"folder": "out"},
    "http-in": {"listen": "127.0.0.1:0"},
    "http-out": {"url": "http://127.0.0.1/"},
}
"""What a channel of this type cannot do without."""


def profile(name: str) -> Adapter:
    findings: list[Finding] = []
    file = load(ADAPTERS[name])
    found = read(Adapter, file.data, file, (), findings)
    assert findings == [] and found is not None
    return found


def test_every_role_of_an_imaging_department_has_an_adapter() -> None:
    assert set(ROLES) | set(PRODUCTS) <= set(ADAPTERS)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_where_its_facts_come_from(name: str) -> None:
    found = profile(name)

    assert found.title and found.sources
    assert all(fact.source for fact in found.facts)
    assert all(re.fullmatch(r"[A-Z]{3}\^[A-Z]\d{2}", one) for one in (*found.sends, *found.wants))


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_is_said_of_a_product_stands_in_a_public_document(name: str) -> None:
    assert all("https://" in source for source in profile(name).sources)


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_setting_of_an_adapter_is_one_of_its_channel_type_and_takes_effect(name: str) -> None:
    for kind, settings in profile(name).channels.items():
        model = channel_type(kind).settings
        known = {field.alias or own: own for own, field in model.model_fields.items()}
        try:
            made = model.model_validate({"type": kind, **NEEDED.get(kind, {}), **settings})
        except ValidationError as error:
            pytest.fail(f"{name}: {kind}: {error}")
        assert set(settings) <= set(known)
        assert made.model_fields_set >= {known[key] for key in settings}


def test_swapping_a_pacs_for_a_product_is_one_line() -> None:
    site = (REPOSITORY / "config" / "bridge.yaml").read_text(encoding="utf-8")
    files = {f"adapters/{name}.yaml": path.read_text(encoding="utf-8") for name, path in ADAPTERS.items()}
    for path in sorted((REPOSITORY / "mappings").rglob("*.yaml")):
        files[f"mappings/{path.relative_to(REPOSITORY / 'mappings').as_posix()}"] = path.read_text(encoding="utf-8")
    swapped = site.replace("pacs: {adapter: pacs}", "pacs: {adapter: dcm4chee-arc}")

    before, after = (
        from_files({"config/bridge.yaml": text, **files}, overrides=Overrides.model_construct(), environ={})
        for text in (site, swapped)
    )

    assert site != swapped and after.findings == ()
    assert before.config.channels["pacs-out"].model_dump()["ack_policy"] == {}
    assert after.config.channels["pacs-out"].model_dump()["ack_policy"] == {"AR": "dead"}
    assert before.config.routes == after.config.routes
