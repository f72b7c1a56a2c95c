"""What an ADT message says about who a patient is: merges, changed identifiers, links (HL7 v2 chapter 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bridge.codecs.er7 import NULL
from bridge.errors import CodecError

if TYPE_CHECKING:
    from bridge.codecs.hl7v2 import View

LONGEST = 254
"""Characters of an identifier with its issuer; a lane key has room for one more."""


class IdentityAct(StrEnum):
    """What is claimed of identifiers."""

    MERGE = "merge"
    """The first was given to a patient who had one already, and is used no more."""
    CHANGE = "change"
    """The first was replaced by the other."""
    LINK = "link"
    """Both are in use, for one person."""
    UNLINK = "unlink"
    """They are not one person's."""
    KNOWN = "known"
    """One person's identifiers of two authorities."""


RETIRING = frozenset({IdentityAct.MERGE, IdentityAct.CHANGE})
"""Acts after which the first identifier stands for the other."""

_ACTS = {
    **dict.fromkeys(("A18", "A30", "A34", "A36", "A39", "A40"), IdentityAct.MERGE),
    **dict.fromkeys(("A46", "A47"), IdentityAct.CHANGE),
    "A24": IdentityAct.LINK,
    "A37": IdentityAct.UNLINK,
}
"""Trigger events. HL7 defines none that takes a merge back."""
_PATIENT, _PERSON = ("MRG-1", "PID-3"), ("MRG-4", "PID-2")
"""Where the retired identifier and its survivor stand, at the levels of patient and person (chapter 3, 3.5.2)."""
_PERSONS = frozenset({"A39", "A46"})
"""Events at the level of the person; kept by HL7 for backward compatibility."""


@dataclass(frozen=True, slots=True)
class PatientNumber:
    """An identifier with its issuer."""

    key: str
    """``id^issuer``, as in :class:`bridge.message.Header`."""
    authority: tuple[str, str, str] = ("", "", "")
    """The issuer in full (HD): namespace, universal id, its type."""
    kind: str = ""
    """Identifier type code (CX-5)."""

    @property
    def issuer(self) -> str:
        return self.key.rpartition("^")[2]


@dataclass(frozen=True, slots=True)
class IdentityClaim:
    """One thing that is claimed. Without ``doubt`` there is exactly one candidate, and the claim is clear."""

    act: IdentityAct
    identifier: str
    """The first identifier; empty when the message does not tell which of the candidates it is."""
    candidates: tuple[PatientNumber, ...]
    """The other one: the survivor of a merge. Several when the message leaves it open."""
    doubt: str = ""
    """Why a person has to decide."""


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """All that one message claims, in its sequence."""

    trigger: str
    claims: tuple[IdentityClaim, ...]
    remark: str = ""
    """What people should see: it is about two patients, and claims nothing that takes effect."""


def identity_event(message: View) -> IdentityEvent | None:
    """What an ADT message claims about identifiers; None when it claims nothing.

    The survivor is PID-3 (else PID-2, PID-4), the retired one MRG-1, matched by issuer and then by type code, in
    each group of PID and MRG; of persons (A39, A46) PID-2 and MRG-4. Raises CodecError for a merge or link that names
    nobody to merge or link.
    """
    code, trigger = message.message.kind
    if code != "ADT":
        return None
    act, groups = _ACTS.get(trigger), message.split("PID")
    claims: list[IdentityClaim] = []
    if act in RETIRING:
        for number, group in enumerate(groups, start=1):
            for level in _levels(trigger, group):
                place = level[0].replace("-", f"({number})-") if len(groups) > 1 else level[0]
                claims += _retirements(act, group, level, place)
        if not groups:
            raise CodecError("a merge without a patient", at="PID", fix="send PID with PID-3", kind="required")
    elif act is not None:
        claims += _pair(act, groups)
    claims += [known for group in groups for known in _cross_references(group)]
    remark = "" if act else next(filter(None, (_unheeded(trigger, group) for group in groups)), "")
    return IdentityEvent(trigger, tuple(claims), remark) if claims or remark else None


def _levels(trigger: str, group: View) -> list[tuple[str, str]]:
    """At which levels a group retires something. Of a person, also the patient's number, if MRG-1 has it."""
    if trigger not in _PERSONS:
        return [_PATIENT]
    return [level for level in (_PERSON, _PATIENT) if _numbers(group, level[0])] or [_PERSON]


def _unheeded(trigger: str, group: View) -> str:
    """Moves, and merges of accounts and visits, take no effect here: told where they are about another patient."""
    for level in (_PATIENT, _PERSON):
        other = {number.key for number in _numbers(group, level[0])} - {number.key for number in _named(group, level)}
        if other:
            return f"{level[0]} names another patient, and {trigger} changes no identifier here: see whether it should"
    return ""


def _retirements(act: IdentityAct, group: View, level: tuple[str, str], place: str) -> list[IdentityClaim]:
    prior, own = _numbers(group, level[0]), _named(group, level)
    if act is IdentityAct.CHANGE and (withdrawn := _withdrawn(group)):
        prior = [number for number in prior if number.issuer not in withdrawn]
        if not prior:
            return []
    gone = {number.key for number in prior}
    named = [number for number in own if number.key not in gone] if prior else own
    if not prior:
        return _both_in_one_place(act, named, place)
    clear: list[IdentityClaim] = []
    open_: list[PatientNumber] = []
    doubtful: list[IdentityClaim] = []
    stays = {number.key for number in own}
    for old in prior:
        fitting = _fitting(old, named)
        if len(fitting) == 1:
            clear.append(IdentityClaim(act, old.key, (fitting[0],)))
        elif fitting:
            doubt = f"{level[1]} has several identifiers of the authority that {level[0]} names"
            doubtful.append(IdentityClaim(act, old.key, tuple(fitting), doubt))
        elif old.key not in stays:
            open_.append(old)
    if not named and open_:
        raise CodecError("nobody survives the merge", at=level[1], fix="send the surviving identifier", kind="required")
    if clear:
        survivor = clear[0].candidates
        return clear + doubtful + [IdentityClaim(IdentityAct.KNOWN, old.key, survivor) for old in open_]
    doubt = f"{level[1]} has no identifier of the authority that {level[0]} names"
    return doubtful + [IdentityClaim(act, old.key, tuple(named), doubt) for old in open_]


def _withdrawn(group: View) -> set[str]:
    """Issuers whose identifier PID-3 deletes (HL7's null in its place): an A47 then takes it away, for no other one."""
    issuers = (parts[3] for parts in group.all_parts("PID-3") if parts[0][0].strip() == NULL and len(parts) > 3)
    return {name for issuer in issuers if (name := next(filter(None, issuer), ""))}


def _fitting(old: PatientNumber, named: Sequence[PatientNumber]) -> list[PatientNumber]:
    """Those of the same issuer; of several, those of the same type code if there are any."""
    fitting = [number for number in named if number.issuer == old.issuer]
    same_kind = [number for number in fitting if number.kind == old.kind]
    return same_kind if len(fitting) > 1 and same_kind else fitting


def _both_in_one_place(act: IdentityAct, named: list[PatientNumber], place: str) -> list[IdentityClaim]:
    """Some senders name both in PID-3: then which one survives is for a person to say."""
    issuers = [number.issuer for number in named]
    for issuer in dict.fromkeys(issuers):
        if issuers.count(issuer) > 1:
            both = tuple(number for number in named if number.issuer == issuer)
            return [IdentityClaim(act, "", both, "MRG-1 is empty: which of them is retired is not said")]
    raise CodecError("a merge names no identifier to retire", at=place, fix="send the retired one", kind="required")


def _pair(act: IdentityAct, groups: Sequence[View]) -> list[IdentityClaim]:
    both = [_own(group)[:1] for group in groups[:2]]
    for number in range(2):
        if len(both) <= number or not both[number]:
            fix = "send two PID segments with PID-3"
            raise CodecError(f"a {act} is about two patients", at=f"PID({number + 1})-3", fix=fix, kind="required")
    (first,), (second,) = both
    return [IdentityClaim(act, first.key, (second,))] if first.key != second.key else []


def _cross_references(group: View) -> Iterator[IdentityClaim]:
    named = _own(group)
    for other in named[1:]:
        if other.issuer != named[0].issuer:
            yield IdentityClaim(IdentityAct.KNOWN, named[0].key, (other,))


def _named(group: View, level: tuple[str, str]) -> list[PatientNumber]:
    return _own(group) if level is _PATIENT else _numbers(group, level[1])


def _own(group: View) -> list[PatientNumber]:
    return _numbers(group, "PID-3") or _numbers(group, "PID-2") or _numbers(group, "PID-4")


def _numbers(group: View, path: str) -> list[PatientNumber]:
    found: dict[str, PatientNumber] = {}
    for parts in group.all_parts(path):
        number = read_number(parts)
        if number is None:
            continue
        if len(number.key) > LONGEST:
            what = f"an identifier of {len(number.key)} characters"
            raise CodecError(what, at=path, fix=f"send at most {LONGEST}, its issuer included", kind="datatype")
        if "\0" in number.key:
            raise CodecError("an identifier with a NUL character", at=path, fix="send text", kind="datatype")
        found.setdefault(number.key, number)
    return list(found.values())


def read_number(parts: Sequence[Sequence[str]]) -> PatientNumber | None:
    """One repetition (CX) taken apart, as :meth:`View.parts` gives it; None without an id."""
    texts = [[text.strip() for text in part] for part in parts]
    name = texts[0][0] if texts and texts[0] else ""
    if name in ("", NULL):
        return None
    issuer = [*texts[3], "", "", ""][:3] if len(texts) > 3 else ["", "", ""]
    kind = texts[4][0] if len(texts) > 4 and texts[4] else ""
    return PatientNumber(f"{name}^{issuer[0] or issuer[1]}", (issuer[0], issuer[1], issuer[2]), kind)
