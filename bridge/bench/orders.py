"""The order that the bench sends: about 780 bytes, six segments, an accent, ids that tell every message apart."""

from __future__ import annotations

EDITED = (b"|BENCH-PACS|", b"|BENCH-ARCHIVE|", b"|RB-BENCH")
"""What the bench's mapping writes into MSH-5, MSH-6 and OBR-21; none of it is in :func:`order`."""

_ORDER = """\
MSH|^~\\&|BENCH-RIS|BENCH-SITE|RADBRIDGE|BENCH|20300605081500||ORM^O01^ORM_O01|{id}|P|2.5.1|||||FRA|UNICODE UTF-8
PID|1||{patient}^^^BENCH&1.2.3.4.5&ISO^PI||EXEMPLE^ZOÉ^ALICE^^MME^^D||19700101|F|||1 RUE INVENTEE^^VILLE-TEST
PV1|1|O|RAD^SALLE1^^BENCH-SITE||||000000001^MODELE^JEAN^^^DR^^^BENCH|000000001^MODELE^JEAN^^^DR^^^BENCH||RAD
ORC|NW|P{order}^BENCH-HIS|F{order}^BENCH-RIS||SC||1^once^^20300605103000^^R||20300605081500|SECRETAIRE^TEST||\
000000001^MODELE^JEAN^^^DR|RAD
OBR|1|P{order}^BENCH-HIS|F{order}^BENCH-RIS|CTTHX^Scanner du thorax^BENCH|R||||||||douleur thoracique|||\
000000001^MODELE^JEAN^^^DR||A{order}|RP{order}|SPS{order}|||||CT|||1^once^^20300605103000^^R
ZDS|1.2.826.0.1.3680043.9.9999.{number}^RADBRIDGE^Application^DICOM
"""


def order(run: int, number: int) -> bytes:
    """The ``number``-th order of run ``run``, UTF-8, without MLLP framing."""
    unique = f"{run:02d}{number:06d}"
    uid = run * 1_000_000 + number
    text = _ORDER.format(id=f"RB{unique}", order=unique, patient=f"PAT{number % 500:06d}", number=uid)
    return text.replace("\n", "\r").encode()


def control_id(message: bytes) -> bytes:
    """MSH-10, which is also MSA's id in the answers of the bench's own ends."""
    return message.split(b"|", 10)[9]
