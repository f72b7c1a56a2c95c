"""Tables as FHIR ConceptMap (R4): ``x.conceptmap.json`` is a table ``x`` as ``x.csv`` is, and each can be made of the
other.

An element's code is the first key, its target's code the first value. Further keys are ``dependsOn``, further values
``product``, each under the name of its column. An element without a code is the empty key, ``*`` is any; a target
without a code (``unmatched``) is an empty value. ``group.unmapped`` says what happens to a code without a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote

from bridge.errors import Finding
from bridge.mapping.tables import ANY, Table, Tables, is_policy, read_table

SUFFIX = ".conceptmap.json"
_KEY, _VALUE, _UNKNOWN = (f"urn:radbridge:table:{word}" for word in ("key", "value", "unknown"))
"""Extensions for what a ConceptMap has no place for: the names of the columns, and ``park`` and ``empty``."""
_NOT_MAPPED = ("unmatched", "disjoint")
_USUAL = ("target", "display", "equivalence", "target_system")
"""Value columns of a map that names none."""


def read_tables(files: Mapping[str, str], findings: list[Finding]) -> Tables:
    """Every table among ``files``, CSV or ConceptMap; of two with one name the first, and a finding."""
    tables = Tables()
    for name in sorted(files):
        read = read_table if name.endswith(".csv") else read_concept_map if name.endswith(SUFFIX) else None
        table = read(files[name], name, findings) if read else None
        if table is None:
            continue
        if table.name in tables:
            what = f"a second table `{table.name}`: there is {tables[table.name].file}"
            findings.append(Finding(name, 1, 1, what, "rename one of them"))
        tables.setdefault(table.name, table)
    return tables


def read_concept_map(text: str, file: str, findings: list[Finding]) -> Table | None:
    """The table in a ConceptMap called ``file``; what is wrong with it is appended to ``findings``."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        findings.append(Finding(file, error.lineno, error.colno, f"not JSON: {error.msg}", "check commas and quotes"))
        return None
    if not isinstance(data, dict) or data.get("resourceType") != "ConceptMap":
        findings.append(Finding(file, 1, 1, "this is no ConceptMap", 'begin with `"resourceType": "ConceptMap"`'))
        return None
    try:
        return _Map(data, text, file, findings).table()
    except (AttributeError, KeyError, TypeError):
        findings.append(Finding(file, 1, 1, "not built as a ConceptMap of R4", "validate it against FHIR R4"))
        return None


class _Map:
    """A ConceptMap on its way to a table."""

    def __init__(self, data: dict[str, Any], text: str, file: str, findings: list[Finding]) -> None:
        self._data, self._text, self._file, self._findings = data, text, file, findings
        self._groups: list[dict[str, Any]] = data.get("group") or []
        self._systems = {str(group.get("source", "")) for group in self._groups}
        self._named = bool(self._said(_KEY))
        self._keys, self._values = (self._said(_KEY), self._said(_VALUE)) if self._named else self._usual()

    def table(self) -> Table:
        targets = {str(group.get("target", "")) for group in self._groups}
        return Table(
            self._file.rsplit("/", 1)[-1].removesuffix(SUFFIX),
            (*self._keys, *self._values),
            list(self._rows()),
            self._file,
            str(self._data.get("version", "")),
            self._unknown(),
            _only(self._systems),
            _only(targets),
            str(self._data.get("description", "")),
        )

    def _said(self, url: str) -> list[str]:
        extensions = self._data.get("extension") or []
        return [str(one["valueString"]) for one in extensions if one.get("url") == url]

    def _usual(self) -> tuple[list[str], list[str]]:
        """Columns of a map that another system made. Where its groups are of several systems, the system is a key."""
        depends = {name: None for _, _, target in self._targets() for name in _parts(target, "dependsOn")}
        products = {name: None for _, _, target in self._targets() for name in _parts(target, "product")}
        return [*(["system"] if len(self._systems) > 1 else []), "code", *depends], [*_USUAL, *products]

    def _targets(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
        for group in self._groups:
            for element in group.get("element") or []:
                for target in element.get("target") or [{}]:
                    yield group, element, target

    def _rows(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        at, last = 0, None
        seen: set[tuple[str, ...]] = set()
        for group, element, target in self._targets():
            if element is not last:
                code = re.escape(json.dumps(element.get("code", ""), ensure_ascii=False))
                match = re.compile(rf'"code"\s*:\s*{code}').search(self._text, at)
                at, last = match.start() + 1 if match else at, element
            line, cells = self._text.count("\n", 0, at) + 1, self._cells(group, element, target)
            key = tuple([cells.get(name, "") for name in self._keys])
            if key in seen:
                what = f"a further target for `{', '.join(key)}`, which is not used"
                self._findings.append(Finding(self._file, line, 1, what, "keep one of them", "warning"))
                continue
            seen.add(key)
            yield line, (*key, *(cells.get(name, "") for name in self._values))

    def _cells(self, group: dict[str, Any], element: dict[str, Any], target: dict[str, Any]) -> dict[str, str]:
        mapped = target.get("equivalence") not in _NOT_MAPPED
        code, result = str(element.get("code", "")), str(target.get("code", "")) if mapped else ""
        more = {**_parts(target, "dependsOn"), **_parts(target, "product")}
        if self._named:
            return {**more, self._keys[0]: code, self._values[0]: result}
        display = str(target.get("display", "")) if mapped else ""
        usual = dict(
            zip(_USUAL, (result, display, target.get("equivalence", ""), group.get("target", "")), strict=True)
        )
        return {**more, **usual, "system": str(group.get("source", "")), "code": code}

    def _unknown(self) -> Any:
        """What happens to codes without a row. The groups are one table, so they have to say the same."""
        if said := [one for one in self._said(_UNKNOWN) if is_policy(one)]:
            return said[0]
        policies = [_policy(group.get("unmapped") or {}) for group in self._groups]
        if None in policies or any(one != policies[0] for one in policies):
            what = "`unmapped` differs between groups, or points to another map: codes without a row are refused"
            self._findings.append(
                Finding(self._file, 1, 1, what, "use `provided` or `fixed`, or `unknown:`", "warning")
            )
            return "refuse"
        return policies[0] if policies else "refuse"


def _only(found: set[str]) -> str:
    return next(iter(found)) if len(found) == 1 else ""


def _policy(unmapped: dict[str, Any]) -> Any:
    """``group.unmapped`` in the words of ``unknown:``; None for what those cannot say."""
    if unmapped.get("mode") == "fixed" and unmapped.get("code"):
        return {"value": unmapped["code"]}
    return {None: "refuse", "provided": "pass"}.get(unmapped.get("mode"))


def _parts(target: dict[str, Any], kind: str) -> dict[str, str]:
    return {unquote(str(one["property"])): str(one.get("value", "")) for one in target.get(kind) or []}


def to_concept_map(table: Table, keys: int) -> str:
    """A table whose first ``keys`` columns are keys, as a ConceptMap from which the same table is read again."""
    rows = groupby((cells for _, cells in table.rows), key=lambda cells: cells[0])
    group: dict[str, Any] = {"source": table.source, "target": table.target}
    group["element"] = [
        {**({"code": code} if code else {}), "target": [_target(table.columns, keys, cells) for cells in some]}
        for code, some in rows
    ]
    extensions = [(_KEY, name) for name in table.columns[:keys]] + [(_VALUE, name) for name in table.columns[keys:]]
    if isinstance(table.unknown, dict):
        group["unmapped"] = {"mode": "fixed", "code": str(table.unknown["value"])}
    elif table.unknown == "pass":
        group["unmapped"] = {"mode": "provided"}
    elif table.unknown != "refuse":
        extensions.append((_UNKNOWN, table.unknown))
    data = {
        "resourceType": "ConceptMap",
        "extension": [{"url": url, "valueString": text} for url, text in extensions],
        "version": table.version,
        "title": table.name,
        "status": "active",
        "description": table.description,
        "group": [{word: value for word, value in group.items() if value}],
    }
    return json.dumps({word: value for word, value in data.items() if value}, ensure_ascii=False, indent=2) + "\n"


def _target(columns: tuple[str, ...], keys: int, cells: tuple[str, ...]) -> dict[str, Any]:
    equivalence = "unmatched" if not cells[keys] else "relatedto" if ANY in cells[:keys] else "equivalent"
    target: dict[str, Any] = {"code": cells[keys]} if cells[keys] else {}
    target["equivalence"] = equivalence
    for word, part in (("dependsOn", slice(1, keys)), ("product", slice(keys + 1, None))):
        named = zip(columns[part], cells[part], strict=True)
        if found := [{"property": quote(name), "value": cell} for name, cell in named if cell]:
            target[word] = found
    return target
