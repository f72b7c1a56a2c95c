"""Whatever a message holds, each way of reading it gives what taking its bytes apart one by one gives."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from bridge.codecs.er7 import NULL, delimiters
from bridge.codecs.hl7v2 import compile_path, parse
from bridge.codecs.views import first_of, reader
from bridge.mapping.fields import take_apart
from bridge.mapping.scope import Scope

VALUE = st.lists(
    st.sampled_from(["A", "B", "é", " ", '""', "|", "~", "^", "&", "\\", "\\T\\", "\\.br\\", "\\X41\\"]), max_size=24
).map("".join)
LINES = st.lists(st.tuples(st.sampled_from(["PID", "OBX", "ORC", "OBR"]), VALUE), max_size=6)
CHARSET = st.sampled_from([("UNICODE UTF-8", "utf-8"), ("8859/1", "iso8859-1"), ("8859/15", "iso8859-15")])
PATHS = ["PID-1", "PID-2.1", "PID-1.2", "OBX-1.1.2", "OBX-2", "OBR-1.2.1", "MSH-9", "MSH-9.2", "NTE-1"]
CHOICES = [*PATHS, "OBX(2)-1", "PID-1[2].1", "OBX(1=A)-2", "OBX(1.2=)-1.1", "OBX(1.1=é)-1", "ORC(*)-1", "ORC-1[*]"]
MARKS = delimiters(b"|^~\\&")


def message(lines: list[tuple[str, str]], charset: tuple[str, str]) -> bytes:
    label, codec = charset
    head = f"MSH|^~\\&|RIS|R|B|H|2026||ORM^O01|C1|P|2.5.1||||||{label}"
    return "\r".join([head, *(f"{name}|{value}" for name, value in lines)]).encode(codec)


def by_hand(raw: bytes, path: str, codec: str) -> str:
    """The first value at a path without choices, from the bytes."""
    segment, _, place = path.partition("-")
    field, component, part = [*(int(number) for number in place.split(".")), 0, 0][:3]
    fields = next((line.split(b"|") for line in raw.split(b"\r") if line.startswith(segment.encode())), [])
    if segment == "MSH":
        fields = [b"", b"|", *fields[1:]]
    value = fields[field].split(b"~")[0] if field < len(fields) else b""
    for number, mark in ((component, b"^"), (part, b"&")):
        value = b"".join(value.split(mark)[number - 1 : number]) if number else value
    return MARKS.unescape(value.decode(codec), codec)


@given(LINES, CHARSET, st.sampled_from(PATHS))
def test_a_path_reads_what_splitting_the_bytes_gives(
    lines: list[tuple[str, str]], charset: tuple[str, str], path: str
) -> None:
    raw = message(lines, charset)
    read = parse(raw)

    assert read.get(path) == by_hand(raw, path, read.codec)


@example([("PID", ' ""')], ("8859/1", "iso8859-1"), ["PID-1"])
@given(LINES, CHARSET, st.lists(st.sampled_from(CHOICES), min_size=1, max_size=3))
def test_alternatives_are_read_as_each_path_for_itself(
    lines: list[tuple[str, str]], charset: tuple[str, str], paths: list[str]
) -> None:
    whole = parse(message(lines, charset))

    for view in (whole, *whole.split("OBR"), *whole.split("OBX")):
        texts = ["" if view.get(path) == NULL else view.get(path).strip() for path in paths]

        assert [reader(compile_path(path))(view) for path in paths] == texts
        assert first_of([compile_path(path) for path in paths])(view) == next(filter(None, texts), "")


@given(LINES, CHARSET)
def test_a_slice_that_is_asked_for_again_is_the_same(lines: list[tuple[str, str]], charset: tuple[str, str]) -> None:
    whole = parse(message(lines, charset))
    scope = Scope(whole, {})

    once, again = scope.split(whole, "OBX"), scope.inner(whole).split(whole, "OBX")

    assert [view.own for view in once] == [view.own for view in again] == [view.own for view in whole.split("OBX")]


@given(VALUE, st.integers(1, 4), st.integers(1, 3))
def test_a_field_taken_apart_has_the_texts_of_its_parts(value: str, component: int, part: int) -> None:
    value = value.replace("|", "").replace("~", "")
    field = take_apart(value, MARKS, lambda text: MARKS.unescape(text, "utf-8"))

    components = [*value.split("^"), "", "", "", ""]
    parts = [*components[component - 1].split("&"), "", ""]
    texts = [MARKS.unescape(one, "utf-8").strip() for one in parts]
    expected = ["" if text == NULL else text for text in texts]

    assert field.text(component, part) == field.component(component).text(part) == expected[part - 1]
    assert field.run(component, 2) == [field.text(component), field.text(component + 1)]
    assert field.nested(component) == ("&" in components[component - 1])
