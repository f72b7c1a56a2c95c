"""Who may associate with the worklist, over plain TCP and TLS, and C-ECHO both ways: with DCMTK and dcmjs-dimse."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from bridge.errors import BridgeError, Unreachable
from channels.dicom_echo import Remote, echo
from tests.rigs import dicom_find_npm
from tests.rigs.engine import RADBRIDGE
from tests.rigs.mllp import certificate
from tests.rigs.processes import wait_until
from tests.rigs.worklist import scheduled
from tests.rigs.worklist_site import Site, dcmtk

KEYS = {"PatientName": "", "AccessionNumber": "", "ScheduledProcedureStepSequence": [{"Modality": ""}]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()
    made.database.close()


def secure(site: Site) -> tuple[str, ...]:
    """Serve over TLS to who shows a certificate that we know; findscu's options for it."""
    for name in ("ours", "ct1"):
        certificate(site.folder, name)
    ours, scanner = site.folder / "ours", site.folder / "ct1"
    tls = {"certificate": f"{ours}.pem", "key": f"{ours}.key", "ca": f"{scanner}.pem"}
    site.start(tls=tls, warn_unsupported=False)
    site.apply(scheduled(1))
    return ("+tls", f"{scanner}.key", f"{scanner}.pem", "+cf", f"{ours}.pem")


def test_a_scanner_asks_over_tls_and_nobody_reads_along(site: Site) -> None:
    options = secure(site)
    assert site.channel.endpoint.startswith("dicoms://")

    assert site.find("0010,0010", options=options).names == ["TEST00001^ÉLODIE"]
    assert site.echo(*options).returncode == 0


def test_who_shows_no_certificate_or_speaks_no_tls_is_not_let_in_and_the_log_says_so(site: Site) -> None:
    options = secure(site)
    with structlog.testing.capture_logs() as logged:
        assert site.echo("+tla", *options[3:]).returncode != 0
        assert site.echo().returncode != 0
        wait_until(lambda: sum(entry["event"] == "tls_handshake_failed" for entry in logged) == 2, "two refusals")

    # and the next one is served all the same, while a peer that says nothing holds a connection open
    with socket.create_connection(("127.0.0.1", site.port)):
        assert site.echo(*options).returncode == 0


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_another_makers_client_gets_the_same_list(site: Site, over_tls: bool) -> None:
    """It asks for keys that are not served, and would take FF01 for the end."""
    files: dict[str, Path] = {}
    if over_tls:
        secure(site)
        files = {name: site.folder / file for name, file in (("ca", "ours.pem"), ("certificate", "ct1.pem"))}
        files["key"] = site.folder / "ct1.key"
    else:
        site.start(warn_unsupported=False)
        site.apply(scheduled(1))
    site.apply(*(scheduled(number) for number in range(2, 201)))

    *pending, last = dicom_find_npm.find(site.port, KEYS, **files)

    assert {answer["status"] for answer in pending} == {0xFF00} and last == {"status": 0, "item": None}
    assert [answer["item"]["AccessionNumber"] for answer in pending] == [f"A{number}" for number in range(1, 201)]


def test_an_address_that_may_not_connect_is_rejected_and_the_log_says_why(site: Site) -> None:
    site.start(allow=["10.0.0.0/8"])
    with structlog.testing.capture_logs() as logged:
        refused = site.echo()

    assert "Rejected" in refused.stderr
    assert [entry["why"] for entry in logged if entry["event"] == "association_rejected"] == [
        "this address may not connect (allow)"
    ]


def test_an_ae_title_counts_only_from_its_own_address(site: Site) -> None:
    systems = {"ct1": {"ae_title": "CT1", "worklist": {"hosts": ["10.1.2.3"]}}, "ct2": {"ae_title": "CT2"}}
    site.start(systems=systems, known_callers_only=True)

    assert "Calling AE Title Not Recognized" in site.echo("-aet", "CT1").stderr
    assert site.echo("-aet", "CT2").returncode == 0
    assert "Calling AE Title Not Recognized" in site.echo("-aet", "CT3").stderr


def test_one_address_cannot_take_all_associations(site: Site) -> None:
    site.start(max_associations=10, peer_associations=1)
    with socket.create_connection(("127.0.0.1", site.port)):
        assert "Local Limit Exceeded" in site.echo().stderr
    wait_until(lambda: site.echo().returncode == 0, "a free place")


# C-ECHO the other way


@contextmanager
def provider(folder: Path, *options: str) -> Iterator[int]:
    """DCMTK's storescp: it answers C-ECHO."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen([dcmtk("storescp"), *options, "-od", str(folder), str(port)])
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ping(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(RADBRIDGE), "ping", *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_a_system_is_pinged_by_its_name_and_by_its_address_and_over_tls(tmp_path: Path) -> None:
    certificate(tmp_path, "scp")
    pem, key = tmp_path / "scp.pem", tmp_path / "scp.key"
    with provider(tmp_path) as plain, provider(tmp_path, "+tls", str(key), str(pem), "-ic") as encrypted:
        (tmp_path / "bridge.yaml").write_text(
            "site: {name: test, timezone: UTC}\n"
            "systems:\n"
            f'  ct1: {{ae_title: CT1, dicom: {{address: "127.0.0.1:{plain}"}}}}\n'
            f'  ct2: {{ae_title: CT2, dicom: {{address: "127.0.0.1:{encrypted}", tls: {{ca: scp.pem}}}}}}\n'
            'channels: {worklist: {type: dicom-worklist, ae_title: US, listen: "127.0.0.1:0"}}\n'
            "routes: {}\n"
        )
        config = ("--config", str(tmp_path / "bridge.yaml"), "--json")
        wait_until(lambda: listens(plain) and listens(encrypted), "storescp")
        by_name, over_tls = ping("ct1", *config), ping("ct2", *config)

    assert (by_name.returncode, over_tls.returncode) == (0, 0), by_name.stdout + over_tls.stdout
    said = json.loads(by_name.stdout)
    assert (said["target"], said["calling"]) == (f"CT1@127.0.0.1:{plain}", "US") and said["ms"] > 0


def test_a_ping_tells_nobody_there_from_not_let_in(site: Site) -> None:
    site.start(require_called_ae=True)
    with pytest.raises(BridgeError, match="rejected") as rejected:
        echo(Remote(address=f"127.0.0.1:{site.port}"), "OTHER", calling="US")
    assert rejected.value.face.exit == 4

    with pytest.raises(Unreachable, match="nobody answers"):
        echo(Remote(address="127.0.0.1:1"), "CT1", calling="US")
