"""A worklist that is killed in the middle of an answer: the scanner's next question is answered in full."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

from bridge.bench.worklist_items import fill
from bridge.demo.engine import Engine, free_port

STEPS = 3000


def ask(port: int, *, kill: int = 0) -> list[str]:
    """The accession numbers that come; ``kill`` is a process that ends without warning after the first of them."""
    ae = AE("CT1")
    ae.add_requested_context(ModalityWorklistInformationFind)
    ae.dimse_timeout = ae.network_timeout = 30
    association = ae.associate("127.0.0.1", port, ae_title="RADBRIDGE")
    assert association.is_established
    query, found = Dataset(), []
    query.AccessionNumber = query.PatientName = ""
    for status, item in association.send_c_find(query, ModalityWorklistInformationFind):
        if item is not None:
            found.append(str(item.AccessionNumber))
        if len(found) == 1 and kill:
            os.kill(kill, signal.SIGKILL)
        if not status:
            break
    if association.is_established:
        association.release()
    return found


def test_a_kill_in_the_middle_of_an_answer_harms_nothing(tmp_path: Path) -> None:
    # Given an engine with a long list
    port = free_port()
    config = tmp_path / "bridge.yaml"
    config.write_text(
        "site: {name: test, timezone: UTC}\n"
        f'channels: {{worklist: {{type: dicom-worklist, listen: "127.0.0.1:{port}"}}}}\n'
        f'routes: {{}}\nweb: {{listen: "127.0.0.1:{free_port()}"}}\ndata: var\n'
    )
    (tmp_path / "var").mkdir()
    fill(tmp_path / "var" / "radbridge.db", STEPS)
    engine = Engine(config, tmp_path / "engine.log")
    engine.start()
    try:
        engine.wait_for(port)

        # When it is killed while it answers, and started again
        before = ask(port, kill=engine.pid)
        engine.stop()
        engine.start()
        engine.wait_for(port)

        # Then the scanner, which got a part, asks again and gets everything once
        again = ask(port)
        assert 1 <= len(before) < STEPS
        assert len(again) == len(set(again)) == STEPS and set(before) <= set(again)
    finally:
        engine.stop()
