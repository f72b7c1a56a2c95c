"""The answers that are kept encoded: never more than is of use."""

from __future__ import annotations

import gc
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from bridge.codecs.dicom_query import Query
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from channels.dicom_find import Asker, Finder, _Shape
from channels.dicom_view import View
from tests.rigs.worklist import query


def _strange(number: int) -> Query:
    """A query that asks for something else than all others, and finds nothing."""
    code = Dataset()
    code.CodeValue = f"C{number}"
    return query(PatientID="nobody", RequestedProcedureCodeSequence=Sequence([code]))


def test_a_scanner_that_never_asks_the_same_twice_fills_no_memory(store_url: str) -> None:
    database = Database(store_url)
    metadata.create_all(database.writer, tables=TABLES)
    finder = Finder(Worklist(database.reader), "worklist")
    asker = Asker("CT1", View(), datetime(2026, 1, 5))

    for number in range(600):
        assert not list(finder.find(_strange(number), asker))

    assert sum(isinstance(one, _Shape) for one in gc.get_objects()) < 300
    database.close()
