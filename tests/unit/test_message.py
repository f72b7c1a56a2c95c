"""Identifiers of messages and deliveries."""

from __future__ import annotations

import os

from bridge.message import id_millis, new_id


def test_identifiers_sort_by_the_time_they_were_made_at_and_tell_it() -> None:
    earlier, later = new_id(1_700_000_000.001), new_id(1_700_000_000.002)

    assert earlier < later
    assert id_millis(earlier) == 1_700_000_000_001


def test_a_forked_process_makes_identifiers_of_its_own() -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_id(0).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(read, 64).decode() != new_id(0)
