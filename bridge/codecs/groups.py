"""Segment groups by message structure: where ``ORDER(2)`` of an order message begins and ends.

The structures and group names are those of HL7 v2.5.1: ORM_O01 (4.4.1), OMG_O19 (4.4.4), OMI_O23 (4.4.12), ORU_R01
(7.3.1), SIU_S12 (10.4), MDM_T02 (9.6.2), ADT (3.3). Which structure holds follows from message code and event, for
MSH-9.3 is often absent or wrong. A segment belongs to the innermost open group that may hold it there; one that has no
place there, a Z segment say, to the group in which it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_STRUCTURES = """
ORM_O01
  PATIENT          PID / PD1 NTE GT1 AL1
    PATIENT_VISIT    PV1 PV2
    INSURANCE*       IN1 IN2 IN3
  ORDER*           ORC (OBR RQD RQ1 RXO ODS ODT) / FT1 CTI BLG
    ORDER_DETAIL     OBR RQD RQ1 RXO ODS ODT / NTE CTD DG1
      OBSERVATION*     OBX / NTE
OMG_O19
  PATIENT          PID / PD1 NTE NK1 GT1 AL1
    PATIENT_VISIT    PV1 PV2
    INSURANCE*       IN1 IN2 IN3
  ORDER*           ORC OBR / NTE CTD DG1 FT1 CTI BLG
    TIMING*          TQ1 / TQ2
    OBSERVATION*     OBX / NTE
    SPECIMEN*        SPM / OBX
      CONTAINER*       SAC / OBX
    PRIOR_RESULT*    (PID) / AL1
      PATIENT_PRIOR    PID PD1
      PATIENT_VISIT_PRIOR PV1 PV2
      ORDER_PRIOR*     ORC OBR / NTE CTD
        TIMING_PRIOR*    TQ1 / TQ2
        OBSERVATION_PRIOR* OBX / NTE
OMI_O23
  PATIENT          PID / PD1 NTE GT1 AL1
    PATIENT_VISIT    PV1 PV2
    INSURANCE*       IN1 IN2 IN3
  ORDER*           ORC OBR / NTE CTD DG1 IPC
    TIMING*          TQ1 / TQ2
    OBSERVATION*     OBX / NTE
ORU_R01
  PATIENT_RESULT*  (PID ORC OBR)
    PATIENT          PID / PD1 NTE NK1
      VISIT            PV1 PV2
    ORDER_OBSERVATION* ORC OBR / NTE CTD FT1 CTI
      TIMING_QTY*      TQ1 / TQ2
      OBSERVATION*     OBX / NTE
      SPECIMEN*        SPM / OBX
SIU_S12            / TQ1 NTE
  PATIENT*         PID / PD1 PV1 PV2 OBX DG1
  RESOURCES*       RGS (AIS AIG AIL AIP)
    SERVICE*         AIS / NTE
    GENERAL_RESOURCE* AIG / NTE
    LOCATION_RESOURCE* AIL / NTE
    PERSONNEL_RESOURCE* AIP / NTE
MDM_T02            / PID PV1 TXA
  COMMON_ORDER*    ORC OBR / NTE
    TIMING*          TQ1 / TQ2
  OBSERVATION*     OBX / NTE
ADT_A01            / PID PD1 ROL NK1 PV1 PV2 DB1 OBX AL1 DG1 DRG GT1 ACC UB1 UB2 PDA
  PROCEDURE*       PR1 / ROL
  INSURANCE*       IN1 IN2 / IN3 ROL
ADT_A39
  PATIENT*         PID / PD1 MRG PV1
ADT_A45            / PID PD1
  MERGE_INFO*      MRG / PV1
"""
"""One group a line, inside the one that stands less far to the right: its name, ``*`` if it repeats; the segments that
begin it, in their sequence; in parentheses those of its own groups that may begin it too; ``/`` what else it holds."""

_MERGES = dict.fromkeys(("A39", "A40", "A41", "A42", "A43", "A44"), "ADT_A39") | {"A45": "ADT_A45"}
_BY_TYPE = {
    "ORM": "ORM_O01",
    "OMG": "OMG_O19",
    "OMI": "OMI_O23",
    "ORU": "ORU_R01",
    "SIU": "SIU_S12",
    "MDM": "MDM_T02",
    "ADT": "ADT_A01",
}
_LINE = re.compile(r"( *)(\w+)(\*?) *([\w ]*)(?:\(([\w ]+)\) *)?(?:/ *([\w ]+))?")


@dataclass(slots=True)
class Group:
    """A group of a message structure; the structure itself is the outermost one."""

    name: str
    repeats: bool
    begins: tuple[str, ...]
    """Its first segments, in their sequence; one that is missing is passed over."""
    opened_by: frozenset[str]
    """Segments that open it, its own first ones and some of its groups'."""
    holds: frozenset[str]
    groups: list[Group] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Node:
    """One occurrence of a group: the numbers of its own segments, and its own groups'."""

    group: Group
    numbers: list[int] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    begun: int = -1
    """Which of the group's first segments was the last."""
    had: set[str] = field(default_factory=set)
    """Names of its own groups that occur."""

    def keeps(self, name: str) -> bool:
        """Whether a segment can come here as this occurrence's own."""
        group = self.group
        return name in group.holds or (name in group.begins and group.begins.index(name) > self.begun)

    def opens(self, name: str) -> Group | None:
        """The group of this one that a segment opens."""
        for group in self.group.groups:
            if name in group.opened_by and (group.repeats or group.name not in self.had):
                return group
        return None

    def fits(self, name: str) -> bool:
        return self.keeps(name) or self.opens(name) is not None

    def open(self, group: Group) -> Node:
        """A new occurrence of one of this one's groups."""
        node = Node(group)
        self.nodes.append(node)
        self.had.add(group.name)
        return node

    def take(self, name: str, number: int) -> None:
        if name in self.group.begins:
            self.begun = max(self.begun, self.group.begins.index(name))
        self.numbers.append(number)

    def occurrences(self, name: str) -> Iterator[Node]:
        """Those of a group, at whatever depth, in the message's sequence."""
        for node in self.nodes:
            if node.group.name == name:
                yield node
            else:
                yield from node.occurrences(name)

    def all_numbers(self) -> Iterator[int]:
        yield from self.numbers
        for node in self.nodes:
            yield from node.all_numbers()


def tree(structure: Group, names: Sequence[str], numbers: Sequence[int]) -> Node:
    """The segments at ``numbers``, whose names are ``names[number]``, put into the groups of a structure."""
    root = Node(structure)
    open_ = [root]
    for number in numbers:
        name = names[number]
        fitting = (depth for depth in range(len(open_), 0, -1) if open_[depth - 1].fits(name))
        del open_[next(fitting, len(open_)) :]
        while not open_[-1].keeps(name) and (group := open_[-1].opens(name)):
            open_.append(open_[-1].open(group))
        open_[-1].take(name, number)
    return root


def chosen(root: Node, wanted: Sequence[tuple[str, int]]) -> list[int]:
    """The segments of the groups that are named one inside the other, each with its number from 1; 0: every one."""
    nodes = [root]
    for name, which in wanted:
        nodes = [found for node in nodes for found in node.occurrences(name)]
        if which:
            nodes = nodes[which - 1 : which]
    return sorted(number for node in nodes for number in node.all_numbers())


def structure_of(kind: str, event: str) -> Group | None:
    """The structure of messages with this code and event; None for one without groups here."""
    name = _MERGES.get(event) if kind == "ADT" else None
    return STRUCTURES.get(name or _BY_TYPE.get(kind, ""))


def _read(table: str) -> dict[str, Group]:
    found: dict[str, Group] = {}
    above: list[tuple[int, Group]] = []
    for line in table.strip().splitlines():
        match = _LINE.fullmatch(line)
        assert match, line
        indent, name, star, begins, openers, holds = match.groups()
        first = tuple(begins.split())
        opened_by = frozenset((*first, *(openers or "").split()))
        group = Group(name, bool(star), first, opened_by, frozenset((holds or "").split()))
        while above and above[-1][0] >= len(indent):
            above.pop()
        if above:
            above[-1][1].groups.append(group)
        else:
            found[name] = group
        above.append((len(indent), group))
    return found


STRUCTURES = _read(_STRUCTURES)
GROUPS = frozenset(re.findall(r"^ +(\w+)", _STRUCTURES, re.M))
"""Every group's name."""
