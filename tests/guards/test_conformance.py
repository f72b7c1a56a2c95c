"""The DICOM conformance statement says what the code does."""

from __future__ import annotations

import re

import pynetdicom
from pynetdicom import AE

from bridge.codecs.dicom_query import SUPPORTED
from bridge.codecs.dicom_text import is_charset
from channels import dicom_association as association
from channels import dicom_worklist as worklist
from tests.rigs.need import REPOSITORY

TEXT = (REPOSITORY / "docs" / "dicom-conformance.md").read_text(encoding="utf-8")


def test_the_keys_of_the_statement_are_those_that_are_served() -> None:
    table = TEXT.partition("| matching | keys |")[2].partition("\n\n")[0]

    assert set(re.findall(r"\b[A-Z][A-Za-z]{6,}\b", table)) == SUPPORTED


def test_every_status_and_reject_reason_is_stated_and_no_other() -> None:
    statuses = {worklist.PENDING, worklist.PENDING_SOME_KEYS, worklist.CANCELLED, worklist.NO_RESOURCES, 0}
    statuses |= {worklist.UNREADABLE, worklist.UNABLE}
    stated = re.findall(r"^\| ([0-9A-F]{4}) \|", TEXT, re.MULTILINE)
    reasons = (
        association.NOT_ALLOWED,
        association.CALLER_UNKNOWN,
        association.CALLED_UNKNOWN,
        association.LIMIT_REACHED,
    )

    assert {int(status, 16) for status in stated} == statuses
    assert set(re.findall(r"\| (\d, \d, \d)", TEXT)) == {", ".join(map(str, reason)) for reason in reasons}


def test_limits_and_names_are_those_of_the_code() -> None:
    settings, ae = association.AssociationSettings(), AE()

    assert f"| {ae.maximum_pdu_size:,} bytes |" in TEXT
    assert f"| {settings.max_associations} (`max_associations`), {settings.peer_associations} from one" in TEXT
    assert f"{settings.request_timeout:.0f} s (`request_timeout`)" in TEXT
    assert f"{settings.idle_timeout:.0f} s (`idle_timeout`)" in TEXT
    assert (
        f"pynetdicom {pynetdicom.__version__}: {ae.implementation_class_uid}, {ae.implementation_version_name}" in TEXT
    )


def test_every_stated_character_set_is_supported() -> None:
    said = TEXT.partition("Supported, both ways: ")[2].partition(".\n")[0]
    alone, _, extended = said.replace("\n", " ").partition(", and with code extensions ")
    terms = [f"ISO_IR {number}" for number in re.findall(r"\b\d{1,3}\b", alone)] + ["GB18030", "GBK"]
    terms += [f"\\ISO 2022 IR {number}" for number in re.findall(r"\b\d{1,3}\b", extended.partition("2022 IR ")[2])]

    assert len(terms) > 25 and [term for term in terms if not is_charset(term)] == []
