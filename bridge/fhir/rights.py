"""What a caller may do and see: scopes of SMART App Launch 2.2 (versions 1 and 2), compartments, and a site's own rule.

All of it ends as search parameters: what a caller sees of a type is what they find (:meth:`Rights.restrict`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import parse_qsl

from bridge.errors import Refused
from bridge.fhir.interaction import TYPES
from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.query import ANY, parse

Act = Literal["create", "read", "update", "delete", "search"]
Pairs = tuple[tuple[str, str], ...]
"""Search parameters that all have to hold."""

_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)(?:\?(.+))?")
_LETTERS: dict[str, Act] = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}
_ACTS: dict[str, str] = {"read": "rs", "write": "cud", "*": "cruds"}
_CLAIM = re.compile(r"\{([A-Za-z_][\w.:-]*)\}")

COMPARTMENT: Mapping[str, tuple[str, ...]] = {
    "Patient": ("_id", "link"),
    "Encounter": ("patient",),
    "ServiceRequest": ("subject", "performer"),
    "Appointment": ("actor",),
    "Task": ("patient",),
    "ImagingStudy": ("patient",),
    "DiagnosticReport": ("subject",),
    "Observation": ("subject", "performer"),
    "Procedure": ("patient", "performer"),
    "DocumentReference": ("subject", "author"),
    "Device": ("patient",),
    "Provenance": ("patient",),
    "AuditEvent": ("patient",),
}
"""By which parameters a resource belongs to a patient: R4's CompartmentDefinition/patient; Task and Device, which it
leaves out, by the patient they are for."""

SHARED = ("Practitioner", "Organization", "Location", "Endpoint")
"""Of no patient: who may read the type sees all of it."""

CLIENT = "urn:radbridge:client"
"""System of the tag by which a Subscription is known as its client's."""


class Sight(Protocol):
    """What somebody may do and see."""

    def restrict(self, kind: str, act: Act = "search") -> Sequence[tuple[str, str]]:
        """What resources of the type have to meet, as ``bridge.fhir.query.restriction`` reads it. Raises Forbidden."""
        ...

    def patients(self, kind: str, act: Act) -> Sequence[tuple[str, str]]:
        """What patients have to meet about whom a resource of the type may be written."""
        ...


class Forbidden(Refused):
    """The caller may not do this, whatever the resource is; ``scope`` would allow it."""

    kind = "forbidden"

    def __init__(self, what: str, *, at: str = "", fix: str = "", scope: str = "") -> None:
        super().__init__(what, at=at, fix=fix)
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Grant:
    """One scope."""

    kind: str
    """A type, or ``*``."""
    acts: frozenset[Act]
    where: Pairs = ()
    of_patient: bool = False
    """Only of the patient that the token names."""


@dataclass(frozen=True, slots=True)
class Rights:
    """``grants`` None: everything. ``sees``: of which patients, any of these searches (``Type?parameter=value``)."""

    grants: tuple[Grant, ...] | None = None
    patient: str = ""
    """Id of the patient that the token is for."""
    sees: tuple[str, ...] = ()
    client: str = ""
    """Who it is, as Subscriptions are tagged."""

    def may(self, act: Act, kind: str) -> bool:
        """Whether some resource of the type (for an empty one: all of every type) could be allowed."""
        if self.grants is None:
            return bool(kind) or not self.sees
        if kind:
            return any(self._allowing(act, kind))
        whole = (one.kind == "*" and not one.of_patient and not one.where for one in self._allowing(act, "*"))
        return not self.sees and any(whole)

    def check(self, act: Act, kind: str) -> None:
        """Raises Forbidden, naming a scope that is missing, unless :meth:`may`."""
        if self.may(act, kind):
            return
        scope = f"system/{kind or '*'}.{act[0]}"
        what = "the token does not allow this" if kind else "only who may see everything may ask for all types at once"
        raise Forbidden(what, at=kind, fix=f"ask for a scope such as {scope}", scope=scope)

    def restrict(self, kind: str, act: Act = "search") -> Pairs:
        self.check(act, kind)
        if self.grants is None and not self.sees:
            return ()
        ways = [way for grant in self._allowing(act, kind) for way in self._ways(grant, kind)]
        seen = [(pair,) for search in self.sees for pair in _seen(search, kind, self.client)]
        return (*_any(ways), *(_any(seen) if self.sees and kind not in SHARED else ()))

    def patients(self, kind: str, act: Act) -> Pairs:
        only = all(grant.of_patient for grant in self._allowing(act, kind))
        seen = [(pair,) for search in self.sees for pair in _seen(search, "Patient", self.client)]
        return (*((("_id", self.patient),) if only else ()), *(_any(seen) if self.sees else ()))

    def _allowing(self, act: Act, kind: str) -> Iterator[Grant]:
        grants = self.grants if self.grants is not None else (Grant("*", frozenset(_LETTERS.values())),)
        for grant in grants:
            named = grant.kind == kind
            writes_shared = kind in SHARED and act not in ("read", "search") and (grant.of_patient or self.sees)
            if act in grant.acts and (named or (grant.kind == "*" and not writes_shared)):
                yield grant

    def _ways(self, grant: Grant, kind: str) -> list[Pairs]:
        """Each way in which a resource of the type is covered by the grant."""
        if not grant.of_patient or kind in SHARED:
            return [grant.where]
        if kind == "Subscription":
            return [(_own(self.client), *grant.where)]
        me = {"_id": self.patient}
        found = ((name, me.get(name, f"Patient/{self.patient}")) for name in COMPARTMENT.get(kind, ()))
        return [(pair, *grant.where) for pair in found]


def rights(
    scopes: str, *, patient: str = "", sees: Sequence[str] = (), claims: Mapping[str, object] | None = None, client: str
) -> Rights:
    """Those of a token: its ``scopes`` (parted by spaces), the patient it was given for, and the searches of the site
    file, in which ``{name}`` stands for a claim. Scopes that are not understood grant nothing.

    Raises Forbidden when a claim that a search needs is not there.
    """
    grants = tuple(one for scope in scopes.split() if (one := _grant(scope)) and (patient or not one.of_patient))
    filled = tuple(_CLAIM.sub(lambda found: _claim(claims or {}, found[1]), search) for search in sees)
    return Rights(grants, patient, filled, client)


def check_search(search: str) -> None:
    """Raises ValueError for what cannot say whose patients a client sees."""
    kind, _, query = _CLAIM.sub("0", search).partition("?")
    pairs = parse_qsl(query)
    if kind not in TYPES or not (kind == "Patient" or "patient" in PARAMETERS[kind]) or len(pairs) != 1:
        raise ValueError("write a search with one parameter, such as ServiceRequest?requester:identifier=urn:x|{claim}")
    try:
        parse(kind, pairs, strict=True)
    except Refused as error:
        raise ValueError(f"{search}: {error.what}") from None


def _grant(scope: str) -> Grant | None:
    """None for a scope that is of something else, or whose search is not served."""
    found = _SCOPE.fullmatch(scope)
    if not found or not found[3]:
        return None
    context, kind, said, query = found.groups()
    where = tuple(parse_qsl(query or "", keep_blank_values=True))
    try:
        if (kind != "*" and kind not in TYPES) or (query and not parse(kind, where, strict=True).conditions):
            return None
    except Refused:
        return None
    acts = frozenset(_LETTERS[letter] for letter in _ACTS.get(said, said))
    return Grant(kind, acts, where, context == "patient")


def _claim(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value or any(ord(letter) < 32 for letter in value):
        raise Forbidden(f"the token lacks the claim `{name}`, which says what may be seen", fix="have it put in")
    return re.sub(r"([\\$,|])", r"\\\1", value).replace("%", "%25").replace("&", "%26").replace("+", "%2B")


def _seen(search: str, kind: str, client: str) -> Iterator[tuple[str, str]]:
    """The same of a patient as asked of a resource of the type, each way it may belong to him."""
    if kind == "Subscription":
        yield _own(client)
        return
    source, _, query = search.partition("?")
    ((name, value),) = parse_qsl(query)
    of_patient = name if source == "Patient" else f"_has:{source}:patient:{name}"
    for through in COMPARTMENT.get(kind, ()):
        yield (of_patient if through == "_id" else f"{through}:Patient.{of_patient}"), value


def _own(client: str) -> tuple[str, str]:
    return "_tag", f"{CLIENT}|{client}"


def _any(ways: Sequence[Pairs]) -> Pairs:
    """Parameters that hold where all of some way do."""
    if () in ways:
        return ()
    return ways[0] if len(ways) == 1 else ((ANY, json.dumps(ways)),)


EVERYTHING = Rights()
