"""The worklist provider, asked by DCMTK's ``findscu`` and ``echoscu`` as a scanner would."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind
from sqlalchemy import text

from bridge.errors import BridgeError, Permanent
from bridge.message import Delivery
from bridge.model import StepStatus, WorklistUpdate
from bridge.ports import Outgoing, channel_type
from tests.rigs.processes import wait_until
from tests.rigs.worklist import scheduled
from tests.rigs.worklist_site import DATE, MODALITY, STATION, TIME, Response, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()
    made.database.close()


def test_an_echo_is_answered(site: Site) -> None:
    site.start()
    assert site.echo().returncode == 0


def test_an_order_is_on_the_list_at_once_and_a_cancel_takes_it_off(site: Site) -> None:
    # Given a provider that was asked before
    site.start()
    assert site.find("0010,0010").items == []
    # When an order comes
    assert site.apply(scheduled(1)) == "1 scheduled"
    # Then a scanner gets what it asked for
    (item,) = site.find("0010,0010", "0008,0050", "0020,000d", STATION, MODALITY, DATE, TIME).items
    step = item.ScheduledProcedureStepSequence[0]
    assert (item.AccessionNumber, item.StudyInstanceUID) == ("A1", "1.2.826.0.1.1")
    assert (step.ScheduledStationAETitle, step.Modality) == ("CT1", "CT")
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == ("20260105", "0930")
    # And nothing after the cancel
    site.apply(WorklistUpdate(("filler:1^RIS",), StepStatus.CANCELLED, known_only=True))
    final = site.find("0010,0010")
    assert final.items == []
    assert "Received Final Find Response (Success)" in final.output


def test_each_caller_reads_accents_in_its_own_character_set(site: Site) -> None:
    site.start(callers={"CT1": {"charset": "ISO_IR 100"}})
    site.apply(scheduled(1, PatientName="LEFÈVRE^ÉLODIE"))
    for caller, term, codec in (("CT1", "ISO_IR 100", "latin_1"), ("CT2", "ISO_IR 192", "utf_8")):
        (item,) = site.find("0010,0010", caller=caller).items
        assert item.SpecificCharacterSet == term
        assert item.PatientName.original_string.rstrip(b" ") == "LEFÈVRE^ÉLODIE".encode(codec)


@pytest.mark.parametrize(("term", "codec"), [("ISO_IR 100", "latin_1"), ("ISO_IR 192", "utf_8")])
def test_a_name_is_asked_for_in_the_querys_own_character_set(site: Site, term: str, codec: str) -> None:
    site.start()
    site.apply(scheduled(1, PatientName="LEFÈVRE^ÉLODIE"), scheduled(2, PatientName="LEFORT^ÉLODIE"))
    asked = site.find(f"0008,0005={term}", "0010,0010=lefèvre*".encode(codec))
    assert asked.names == ["LEFÈVRE^ÉLODIE"]


def test_names_match_by_wild_cards_whatever_their_case(site: Site) -> None:
    site.start()
    site.apply(scheduled(1, PatientName="TESTMANN^ANNA"), scheduled(2, PatientName="TESTFRAU^BERTA"))
    assert site.find("0010,0010=testm*").names == ["TESTMANN^ANNA"]
    assert site.find("0010,0010=*^?nna").names == ["TESTMANN^ANNA"]
    assert len(site.find("0010,0010=*").names) == 2


def test_one_stations_day_is_what_a_scanner_gets(site: Site) -> None:
    site.start()
    site.apply(
        scheduled(1),
        scheduled(2, {"ScheduledStationAETitle": "CT2"}),
        scheduled(3, {"ScheduledProcedureStepStartDate": "20260106"}),
        scheduled(4, {"ScheduledStationAETitle": ["CT1", "CT2"]}),
    )
    asked = site.find("0010,0020", f"{STATION}=CT1", f"{DATE}=20260105")
    assert [item.PatientID for item in asked.items] == ["P1", "P4"]


def test_several_stations_and_modalities_match_if_any_does(site: Site) -> None:
    site.start()
    for number, modality in enumerate(("CT", "MR", "DX"), 1):
        site.apply(scheduled(number, {"Modality": modality, "ScheduledStationAETitle": f"{modality}1"}))
    assert len(site.find("0010,0010", f"{MODALITY}=CT\\MR").items) == 2
    assert len(site.find("0010,0010", f"{STATION}=CT1\\DX1\\NM1").items) == 2


def test_a_date_and_a_time_range_are_one_range_of_moments(site: Site) -> None:
    site.start()
    for number, (day, time) in enumerate([("20260705", "0900"), ("20260706", "0700"), ("20260707", "1900")], 1):
        site.apply(scheduled(number, {"ScheduledProcedureStepStartDate": day, "ScheduledProcedureStepStartTime": time}))
    asked = site.find("0010,0020", f"{DATE}=20260705-20260707", f"{TIME}=1000-1800")
    assert [item.PatientID for item in asked.items] == ["P2"]


def test_absent_empty_and_one_item_sequences_are_answered_differently(site: Site) -> None:
    site.start()
    site.apply(scheduled(1))
    (absent,) = site.find("0010,0010").items
    (empty,) = site.find("0010,0010", "0040,0100").items
    (one,) = site.find("0010,0010", MODALITY).items
    assert "ScheduledProcedureStepSequence" not in absent
    assert empty.ScheduledProcedureStepSequence[0].ScheduledProcedureStepDescription == "CT thorax"
    assert [element.keyword for element in one.ScheduledProcedureStepSequence[0]] == ["Modality"]


def test_a_query_with_a_key_that_is_not_served_is_answered_with_the_warning_status(site: Site) -> None:
    site.start()
    site.apply(scheduled(1))
    unserved, served = site.find("0010,0010", "0008,0052"), site.find("0010,0010", "0010,2154")
    assert unserved.names == served.names == ["TEST00001^ÉLODIE"]
    assert "WarningUnsupportedOptionalKeys" in unserved.output
    assert "WarningUnsupportedOptionalKeys" not in served.output


def test_a_key_that_breaks_the_rules_ends_the_query_and_the_scanner_is_told_where(site: Site) -> None:
    site.start()
    site.apply(scheduled(1))
    refused = site.find("0010,0010", f"{DATE}=TODAY", options=("-d",))
    assert refused.items == []
    assert "0xc001" in refused.output
    assert "not a date (ScheduledProcedureStepStartDate)" in refused.output


def test_a_cancelled_query_ends_with_cancel(site: Site) -> None:
    site.start()
    site.apply(*(scheduled(number) for number in range(1500)))
    asked = site.find("0010,0010", options=("--cancel", "2"))
    assert "Received Final Find Response (Cancel" in asked.output
    assert 2 <= len(asked.items) < 1500


def test_a_forced_station_shows_its_own_steps_whatever_is_asked(site: Site) -> None:
    site.start(callers={"CT1": {"stations": ["CT1"]}})
    site.apply(scheduled(1), scheduled(2, {"ScheduledStationAETitle": "CT2"}))
    assert len(site.find("0010,0010", caller="CT1").items) == 1
    assert site.find("0010,0010", f"{STATION}=CT2", caller="CT1").items == []
    assert len(site.find("0010,0010", caller="CT2").items) == 2


def test_a_caller_sees_the_statuses_of_its_profile(site: Site) -> None:
    site.start(callers={"PPS": {"statuses": ["completed"]}})
    site.apply(scheduled(1), scheduled(2), WorklistUpdate(("filler:2^RIS",), StepStatus.COMPLETED))
    assert [item.PatientID for item in site.find("0010,0020").items] == ["P1"]
    assert [item.PatientID for item in site.find("0010,0020", caller="PPS").items] == ["P2"]


def test_a_name_that_a_caller_cannot_read_is_withheld_and_reported(site: Site) -> None:
    site.start(charset="ISO_IR 100", callers={"CT2": {"unfit": "transliterate"}})
    site.apply(scheduled(1, PatientName="ŁUKASZ^ÉLODIE"), scheduled(2))
    with structlog.testing.capture_logs() as logs:
        assert site.find("0010,0010", caller="CT1").names == ["TEST00002^ÉLODIE"]
        assert site.find("0010,0010", caller="CT2").names == ["LUKASZ^ÉLODIE", "TEST00002^ÉLODIE"]
    (withheld,) = [entry for entry in logs if entry["event"] == "worklist_item_withheld"]
    assert (withheld["calling"], withheld["attribute"]) == ("CT1", "PatientName")
    queried = [entry for entry in logs if entry["event"] == "worklist_queried"]
    assert [(entry["matches"], entry["withheld"]) for entry in queried] == [(1, 1), (2, 0)]


def test_more_matches_than_the_limit_end_with_success_and_an_alert_or_with_a_refusal(site: Site) -> None:
    site.start(limit=2, callers={"CT2": {"over_limit": "refuse"}})
    site.apply(*(scheduled(number) for number in range(3)))
    with structlog.testing.capture_logs() as logs:
        cut = site.find("0010,0010", caller="CT1")
    assert len(cut.items) == 2
    assert "Received Final Find Response (Success)" in cut.output
    assert "worklist_limit_reached" in [entry["event"] for entry in logs]
    refused = site.find("0010,0010", caller="CT2")
    assert refused.items == []
    assert "OutOfResources" in refused.output


def test_a_worklist_that_cannot_be_read_is_answered_out_of_resources(site: Site) -> None:
    site.start()
    with site.database.writer.begin() as tx:
        tx.execute(text("DROP TABLE worklist_item"))
    assert "OutOfResources" in site.find("0010,0010").output


def test_no_patient_content_reaches_the_log(site: Site) -> None:
    site.start()
    site.apply(scheduled(1, PatientName="SECRETNAME^X"))
    with structlog.testing.capture_logs() as logs:
        assert site.find("0010,0010=SECRET*", f"{DATE}=20260105").names == ["SECRETNAME^X"]
        site.find("0010,0010=SECRET*", f"{DATE}=SECRETDAY")
    assert {"worklist_queried", "worklist_query_failed"} <= {entry["event"] for entry in logs}
    assert "SECRET" not in repr(logs).upper()


def test_who_calls_us_by_another_title_is_rejected_with_that_reason(site: Site) -> None:
    site.start(require_called_ae=True)
    rejected = site.echo("-aec", "OTHER")
    assert rejected.returncode != 0
    assert "Called AE Title Not Recognized" in rejected.stdout + rejected.stderr
    assert site.echo("-aec", "RADBRIDGE").returncode == 0


def test_an_unknown_caller_is_rejected_with_that_reason_where_only_known_ones_may_ask(site: Site) -> None:
    site.start(known_callers_only=True, callers={"CT1": {}})
    rejected = site.echo("-aet", "STRANGER")
    assert "Calling AE Title Not Recognized" in rejected.stdout + rejected.stderr
    assert site.echo("-aet", "CT1").returncode == 0


def test_no_more_associations_than_allowed_are_open_at_once(site: Site) -> None:
    site.start(max_associations=1)
    with socket.create_connection(("127.0.0.1", site.port)):
        rejected = site.echo()
        assert "Local Limit Exceeded" in rejected.stdout + rejected.stderr


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x0bMSH|^~\\&|RIS\x1c\r",
        b"\x01\x00\x00\x00\x00\x04\x00\x01\x00\x00",
        b"\x01\x00\xff\xff\xff\xff" + b"\x00" * 4096,
        b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x04\x01\x03\x00\x00",
        bytes(range(256)) * 64,
    ],
)
def test_junk_on_the_port_ends_that_connection_only(site: Site, junk: bytes) -> None:
    site.start(request_timeout="1s", idle_timeout="1s")
    # Given somebody who sends what is no association request, and stays
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as peer:
        peer.sendall(junk)
        # Then scanners are served as before
        assert site.echo().returncode == 0
        # And the peer is hung up on
        with contextlib.suppress(ConnectionResetError):
            while peer.recv(4096):
                pass


def test_eight_scanners_at_once_each_get_their_own_answer(site: Site) -> None:
    site.start()
    site.apply(*(scheduled(number, {"ScheduledStationAETitle": f"CT{number % 8}"}) for number in range(160)))
    ask: Callable[[int], Response] = lambda number: site.find("0010,0020", f"{STATION}=CT{number}")  # noqa: E731
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    for number, answer in enumerate(answers):
        assert {item.PatientID for item in answer.items} == {f"P{n}" for n in range(number, 160, 8)}


def test_a_taken_port_is_a_settings_error_that_says_what_to_do(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BridgeError) as caught:
            site.start(listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert caught.value.kind == "settings"
    assert "worklist.listen" in caught.value.at
    assert caught.value.fix
    site.channel = None


def test_after_a_stop_nobody_listens_and_a_start_serves_again(site: Site) -> None:
    site.start()
    port = site.port
    site.stop()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port)):
        pass
    site.start(listen=f"127.0.0.1:{port}")
    assert site.echo().returncode == 0


def test_a_stop_aborts_open_associations_and_does_not_wait_for_silent_peers(site: Site) -> None:
    # Given a scanner with an open association, and a peer that only connected
    site.start()
    scanner = AE("CT1")
    scanner.add_requested_context(ModalityWorklistInformationFind)
    association = scanner.associate("127.0.0.1", site.port)
    assert association.is_established
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as silent:
        # When the provider stops
        site.stop()
        # Then the scanner is told, and the peer is hung up on
        wait_until(lambda: bool(association.is_aborted), "the abort")
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_a_delivery_that_is_no_worklist_document_is_refused_for_good(site: Site) -> None:
    site.start()
    delivery = Delivery("d", "m", 20260105, "orders", "worklist", "", "r", (), origin=1)
    with pytest.raises(Permanent), site.database.writer.begin() as tx:
        site.channel.apply(tx, Outgoing(b"MSH|^~\\&|", delivery))


@pytest.mark.parametrize(
    "settings",
    [
        {"charset": "LATIN1"},
        {"ae_title": "A_TITLE_THAT_IS_TOO_LONG"},
        {"ae_title": "BACK\\SLASH"},
        {"callers": {"CT1": {"colour": "blue"}}},
        {"statuses": []},
        {"limit": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    kind = channel_type("dicom-worklist")
    with pytest.raises(ValueError):
        kind.settings.model_validate({"type": kind.name, **settings})
