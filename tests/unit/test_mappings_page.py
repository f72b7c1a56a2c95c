"""The page about the mapping language: what it shows first works, and its links lead somewhere."""

from __future__ import annotations

import re

from bridge.mapping import compile_all, run_cases
from tests.rigs.need import REPOSITORY

PAGE = (REPOSITORY / "docs" / "mappings.md").read_text(encoding="utf-8")


def test_the_first_example_has_no_findings_and_its_case_holds() -> None:
    blocks = re.findall(r"```yaml\n# mappings/(\S+)\n(.*?)```", PAGE, re.DOTALL)
    files = dict(blocks[:2])
    sample = REPOSITORY / "mappings" / "samples" / "orm_new_ct.hl7"

    (result,) = run_cases(files, {f"samples/{sample.name}": sample.read_bytes()})

    assert list(files) == ["to-pacs.yaml", "to-pacs.cases.yaml"]
    assert compile_all(files).findings == []
    assert result.ok, str(result)


def test_every_link_leads_to_a_heading_or_a_page() -> None:
    headings = (
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    )
    anchors = {f"#{one}" for one in headings}
    links = re.findall(r"\]\(([^)]+)\)", PAGE)

    inside = [link for link in links if link.startswith("#")]
    pages = [link.partition("#")[0] for link in links if not link.startswith("#")]

    assert [link for link in inside if link not in anchors] == []
    assert [page for page in pages if not (REPOSITORY / "docs" / page).exists()] == []
