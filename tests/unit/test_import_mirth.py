"""A channel of another engine: what is translated does the same, what is not is told, and nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.codecs.hl7v2 import parse
from bridge.errors import CodecError
from bridge.importers.mirth import Imported, import_channel
from bridge.importers.mirth_script import Names, Untranslated, condition, edits, overlap, place, value
from bridge.lint import findings_of
from bridge.mapping import compile_all, compile_condition
from bridge.mapping.cases import SITE
from bridge.settings import Overrides, from_files
from bridge.yamlfile import parse as parse_yaml
from tests.rigs.need import REPOSITORY

ORDER = (REPOSITORY / "mappings" / "samples" / "orm_new_ct.hl7").read_bytes()
PLUGIN = "com.mirth.connect.plugins"


def element(kind: str, **texts: str) -> str:
    package = {"JavaScriptStep": "javascriptstep", "MapperStep": "mapper", "MessageBuilderStep": "messagebuilder"}
    package |= {"RuleBuilderRule": "rulebuilder", "JavaScriptRule": "javascriptrule", "XsltStep": "xsltstep"}
    values = texts.pop("values", None)
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items())
    if values is not None:
        inside += "<values>" + "".join(f"<string>{escape(one)}</string>" for one in values.split("|")) + "</values>"
    tag = f"{PLUGIN}.{package[kind]}.{kind}"
    return f'<{tag} version="4.5.0"><sequenceNumber>0</sequenceNumber>{inside}</{tag}>'


def rule(path: str, condition: str, values: str = "", operator: str = "AND", **more: str) -> str:
    given = {"values": values} if values else {}
    return element("RuleBuilderRule", name=path, operator=operator, field=path, condition=condition, **given, **more)


def script(text: str, name: str = "a script", **more: str) -> str:
    return element("JavaScriptStep", name=name, script=text, **more)


TCP_IN = """<properties class="com.mirth.connect.connectors.tcp.TcpReceiverProperties" version="4.5.0">
  <listenerConnectorProperties version="4.5.0"><host>0.0.0.0</host><port>6661</port></listenerConnectorProperties>
  <transmissionModeProperties><pluginPointName>MLLP</pluginPointName></transmissionModeProperties>
  <serverMode>true</serverMode><receiveTimeout>0</receiveTimeout><maxConnections>10</maxConnections>
  <charsetEncoding>ISO-8859-1</charsetEncoding></properties>"""
TCP_OUT = """<properties class="com.mirth.connect.connectors.tcp.TcpDispatcherProperties" version="4.5.0">
  <destinationConnectorProperties><queueEnabled>true</queueEnabled><retryIntervalMillis>10000</retryIntervalMillis>
  <retryCount>0</retryCount><threadCount>1</threadCount></destinationConnectorProperties>
  <transmissionModeProperties><pluginPointName>MLLP</pluginPointName></transmissionModeProperties>
  <serverMode>false</serverMode><remoteAddress>pacs.example</remoteAddress><remotePort>2576</remotePort>
  <keepConnectionOpen>false</keepConnectionOpen><responseTimeout>5000</responseTimeout>
  <template>${message.encodedData}</template></properties>"""


def connector(tag: str, name: str, properties: str, rules: str = "", steps: str = "", enabled: str = "true") -> str:
    types = "<inboundDataType>HL7V2</inboundDataType><outboundDataType>HL7V2</outboundDataType>"
    return (
        f'<{tag} version="4.5.0"><name>{name}</name>{properties}'
        f"<transformer><elements>{steps}</elements>{types}</transformer>"
        f"<filter><elements>{rules}</elements></filter><enabled>{enabled}</enabled></{tag}>"
    )


def export(
    source: str = TCP_IN, rules: str = "", steps: str = "", destinations: str = "", scripts: str = "return message;"
) -> bytes:
    destinations = destinations or connector("connector", "PACS", TCP_OUT)
    text = (
        f'<channel version="4.5.0"><id>0</id><name>Orders to PACS</name>'
        f"{connector('sourceConnector', 'sourceConnector', source, rules, steps)}"
        f"<destinationConnectors>{destinations}</destinationConnectors>"
        f"<preprocessingScript>// a remark\n{scripts}</preprocessingScript></channel>"
    )
    return text.encode()


def told(made: Imported) -> list[tuple[str, str, str]]:
    return [(one.where, one.part, one.why) for one in made.report if one.result != "translated"]


def site(made: Imported) -> dict[str, object]:
    """The site file; what was made has no errors."""
    loaded = from_files(made.files, overrides=Overrides.model_construct(), environ={})
    assert [str(one) for one in findings_of(loaded) if one.severity == "error"] == []
    return dict(loaded.document.data)


def mapped(made: Imported, raw: bytes = ORDER) -> dict[str, str]:
    """Places of the order after the mapping of its only route."""
    data = site(made)
    (route,) = data["routes"].values()  # type: ignore[attr-defined]
    (mapping,) = route["to"][0].values()
    compiled = compile_all(
        {name.removeprefix("mappings/"): text for name, text in made.files.items() if name[:4] == "mapp"}
    )
    message = parse(compiled.mappings[mapping].render(parse(raw), {"site": SITE}).data)
    paths = ("MSH-3", "MSH-4", "MSH-5", "MSH-6", "PID-5.1", "PID-5.2", "PID-8", "PID-19", "OBR-18", "OBR-24", "ZDS-1.1")
    return {path: message.get(path) for path in paths} | {"IN1": str(len(message.segments("IN1")))}


def test_a_whole_channel_becomes_a_site_without_errors_and_its_route_decides_alike() -> None:
    made = import_channel(
        export(
            rules=rule("msg['MSH']['MSH.9']['MSH.9.1'].toString()", "EQUALS", "'ORM'|'OMI'")
            + rule("msg['ORC']['ORC.1']['ORC.1.1'].toString()", "NOT_EQUAL", "'CA'"),
            steps=element(
                "MapperStep",
                name="Accession",
                variable="Accession",
                mapping="msg['OBR']['OBR.18']['OBR.18.1'].toString()",
            )
            + script("msg['MSH']['MSH.3']['MSH.3.1'] = 'ENGINE'; // who sends it"),
            destinations=connector(
                "connector",
                "PACS",
                TCP_OUT,
                rules=rule("msg['OBR']['OBR.24']['OBR.24.1'].toString()", "CONTAINS", "'C'"),
                steps=element(
                    "MessageBuilderStep",
                    name="Facility",
                    messageSegment="msg['MSH']['MSH.4']['MSH.4.1']",
                    mapping="msg['MSH']['MSH.99']['MSH.99.1'].toString()",
                    defaultValue="'HOSPITAL'",
                )
                + script(
                    "msg['MSH']['MSH.6']['MSH.6.1'] = $('Accession');\ndelete msg['PID']['PID.19'];\ndelete msg['IN1']"
                ),
            ),
        )
    )

    data = site(made)
    route = data["routes"]["orders-to-pacs-pacs"]  # type: ignore[index]
    assert told(made) == []
    assert data["channels"] == {
        "orders-to-pacs-in": {"type": "mllp-in", "listen": "0.0.0.0:6661", "max_connections": 10, "charset": "8859/1"},
        "orders-to-pacs-pacs": {
            "type": "mllp-out",
            "connect": "pacs.example:2576",
            "connection": "per_message",
            "ack_timeout": "5000ms",
            "retry": {"first": "10000ms"},
        },
    }
    wanted = compile_condition(route["when"], "when")
    assert wanted(parse(ORDER))
    assert not wanted(parse(ORDER.replace(b"ORC|NW", b"ORC|CA")))
    after = mapped(made)
    assert (after["MSH-3"], after["MSH-4"], after["MSH-6"]) == ("ENGINE", "HOSPITAL", "A100")
    assert (after["PID-19"], after["IN1"]) == ("", "0")


def test_what_a_step_reads_of_an_earlier_one_is_what_that_one_wrote() -> None:
    first = script("msg['MSH']['MSH.3']['MSH.3.1'] = 'A'")
    second = script("msg['MSH']['MSH.5']['MSH.5.1'] = msg['MSH']['MSH.3']['MSH.3.1'].toString()")

    after = mapped(import_channel(export(steps=first + second)))

    assert (after["MSH-3"], after["MSH-5"]) == ("A", "A")


def test_a_variable_keeps_what_it_was_when_its_place_is_changed_afterwards() -> None:
    name = "msg['MSH']['MSH.3']['MSH.3.1']"
    text = f"var was = {name}.toString();\n{name} = 'A';\nmsg['MSH']['MSH.5']['MSH.5.1'] = was"

    after = mapped(import_channel(export(steps=script(text))))

    assert (after["MSH-3"], after["MSH-5"]) == ("A", parse(ORDER).get("MSH-3"))


def test_a_condition_holds_for_the_places_in_its_braces() -> None:
    text = "if (msg['PID']['PID.8']['PID.8.1'].toString() == '{}') {{ msg['MSH']['MSH.5']['MSH.5.1'] = 'X'; }}"
    sex = parse(ORDER).get("PID-8")

    assert mapped(import_channel(export(steps=script(text.format(sex)))))["MSH-5"] == "X"
    assert mapped(import_channel(export(steps=script(text.format("?")))))["MSH-5"] != "X"


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (script("for each (seg in msg..OBX) { seg['OBX.5'] = 'x'; }"), "is no place in a message"),
        (script("if (a) return;\nmsg['PID']['PID.8']['PID.8.1'] = 'M'"), "no assignment"),
        (script("msg['PID']['PID.8']['PID.8.1'] = lookUp(msg)"), "more than a place, a constant or a variable"),
        (script("msg['PID']['PID.5']['PID.5.1'] = 'A' + 'B'"), "more than a place, a constant or a variable"),
        (script("tmp['PID']['PID.8']['PID.8.1'] = 'M'"), "outbound template"),
        (script("var x = msg['PID']['PID.8'].toString()"), "reads XML"),
        (script("var x = 'a'; var x = 'b';"), "a second value"),
        (element("XsltStep", name="a sheet"), "a step of the kind XsltStep"),
        (
            element("MapperStep", name="m", variable="x", mapping="msg['PID']['PID.8']['PID.8.1']", replacements="y"),
            "regular expressions",
        ),
    ],
)
def test_a_step_that_is_not_understood_is_told_and_does_nothing_at_all(step: str, why: str) -> None:
    before = script("msg['MSH']['MSH.3']['MSH.3.1'] = 'A'", name="the first")
    after = script("msg['MSH']['MSH.5']['MSH.5.1'] = 'B'", name="the last")

    made = import_channel(export(steps=before + step + after))

    ((where, _, reason),) = told(made)
    assert where == "source" and why in reason
    assert "NOT TRANSLATED" in made.files["mappings/orders-to-pacs/source.yaml"]
    changed = mapped(made)
    assert (changed["MSH-3"], changed["MSH-5"]) == ("A", "B")
    assert changed["PID-8"] == parse(ORDER).get("PID-8")


def test_what_is_no_hl7_is_passed_on_as_it_is_and_its_steps_are_told() -> None:
    raw = export(steps=script("x")).replace(b"<inboundDataType>HL7V2", b"<inboundDataType>RAW")

    made = import_channel(raw)

    channels = site(made)["channels"]
    assert channels["orders-to-pacs-in"]["format"] == "bytes"  # type: ignore[index]
    ((where, part, why),) = told(made)
    assert (where, part) == ("source", "transformer") and "RAW" in why


def test_names_of_steps_cannot_break_the_files_that_they_are_remarks_in() -> None:
    text = "msg['PID']['PID.8']['PID.8.1'] = 'M'"

    made = import_channel(export(steps=script(text, name="a\nb\u0085: [")))

    assert mapped(made)["PID-8"] == "M"


def test_a_route_whose_filter_is_not_understood_is_not_in_use() -> None:
    rules = element("JavaScriptRule", name="by hand", script="return isWanted(msg);")

    made = import_channel(export(rules=rules))

    assert not site(made)["routes"]
    assert "NOT IN USE: a rule of its filter could not be translated" in made.files["config/bridge.yaml"]
    ((where, part, _),) = told(made)
    assert (where, part) == ("source", "JavaScriptRule by hand")


def test_and_binds_closer_than_or_and_what_is_switched_off_does_not_count() -> None:
    code = "msg['ORC']['ORC.1']['ORC.1.1'].toString()"
    modality = "msg['OBR']['OBR.24']['OBR.24.1'].toString()"
    rules = (
        rule(code, "EQUALS", "'ZZ'", operator="NONE", enabled="false")
        + rule(code, "EQUALS", "'XO'", operator="OR")
        + rule(modality, "EQUALS", "'MR'")
        + rule(code, "EQUALS", "'NW'", operator="OR")
    )

    made = import_channel(export(rules=rules))

    (route,) = site(made)["routes"].values()  # type: ignore[attr-defined]
    assert route["when"] == {"any": [{"ORC-1.1": "XO", "OBR-24.1": "MR"}, {"ORC-1.1": "NW"}]}
    assert told(made) == [("source", f"RuleBuilderRule {code}", "it is switched off")]


def test_other_connectors_become_channels_or_are_told() -> None:
    class_ = "com.mirth.connect.connectors"
    file_in = f'<properties class="{class_}.file.FileReceiverProperties"><scheme>FILE</scheme><host>/in</host>'
    file_in += "<fileFilter>*.hl7</fileFilter><regex>false</regex><afterProcessingAction>DELETE</afterProcessingAction>"
    file_in += (
        "<pollConnectorProperties><pollingFrequency>5000</pollingFrequency></pollConnectorProperties></properties>"
    )
    file_out = f'<properties class="{class_}.file.FileDispatcherProperties"><scheme>FILE</scheme><host>/out</host>'
    file_out += "<outputPattern>x.hl7</outputPattern><template>${message.encodedData}</template></properties>"
    http_out = f'<properties class="{class_}.http.HttpDispatcherProperties"><host>http://x.example/hl7</host>'
    http_out += "<method>post</method><contentType>application/hl7-v2</contentType></properties>"
    mail = f'<properties class="{class_}.smtp.SmtpDispatcherProperties"></properties>'
    own = f'<properties class="{class_}.file.FileDispatcherProperties"><host>${{where}}</host></properties>'
    parts = [("files", file_out), ("web", http_out), ("mail", mail), ("somewhere", own)]

    made = import_channel(
        export(
            source=file_in,
            destinations="".join(connector("connector", name, properties) for name, properties in parts)
            + connector("connector", "old", TCP_OUT, enabled="false"),
            scripts="doThings(); return message;",
        )
    )

    channels = site(made)["channels"]
    assert channels == {
        "orders-to-pacs-in": {
            "type": "file-in",
            "folder": "/in",
            "pattern": "*.hl7",
            "poll": "5000ms",
            "after": "delete",
        },
        "orders-to-pacs-files": {"type": "file-out", "folder": "/out"},
        "orders-to-pacs-web": {"type": "http-out", "url": "http://x.example/hl7", "content_type": "application/hl7-v2"},
    }
    assert [(where, part) for where, part, _ in told(made)] == [
        ("channel", "preprocessingScript"),
        ("mail", "connector"),
        ("somewhere", "connector"),
        ("old", "connector"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"<channel>",
        b"not XML",
        b"<alert/>",
        b'<!DOCTYPE c [<!ENTITY a "b">]><channel>&a;</channel>',
        b'<!DOCTYPE c SYSTEM "file:///etc/passwd"><channel/>',
    ],
)
def test_what_is_no_export_or_more_than_xml_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        import_channel(data)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("msg['PID']['PID.5']['PID.5.1'].toString()", "PID-5.1"),
        ('msg["PID"]["PID.3"][1]["PID.3.4"]["PID.3.4.2"]', "PID-3[2].4.2"),
        ("msg['OBX'][2]['OBX.5']['OBX.5.1']", "OBX(3)-5.1"),
        ("msg['ZDS']", "ZDS"),
    ],
)
def test_places_are_counted_from_one(text: str, path: str) -> None:
    assert place(text).path == path


@pytest.mark.parametrize("text", ["msg['PID']['OBX.5']", "msg.PID", "x['PID']", "msg['PID']['PID.x']"])
def test_what_is_no_place_is_told(text: str) -> None:
    with pytest.raises(Untranslated):
        place(text)


def test_constants_are_read_with_their_escapes_and_case_changes_become_functions() -> None:
    assert value(r"'it\'s'", Names()) == ({"value": "it's"}, set())
    assert value("msg['PID']['PID.8']['PID.8.1'].toString().toUpperCase()", Names())[0] == {
        "from": "PID-8.1",
        "as": "upper",
    }


def test_conditions_of_scripts_are_those_of_routes() -> None:
    sex, visit = "msg['PID']['PID.8']['PID.8.1']", "msg['PV1']['PV1.2']['PV1.2.1'].toString()"

    assert condition("return true;", Names()) == {}
    assert condition(f"return {sex} == 'F' && {visit} != '';", Names()) == {"PID-8.1": "F", "PV1-2.1": "present"}
    assert condition(f"{sex} === 'F' || {sex} === 'M'", Names()) == {"any": [{"PID-8.1": "F"}, {"PID-8.1": "M"}]}
    with pytest.raises(Untranslated):
        condition(f"!({sex} == 'F')", Names())


def test_remarks_and_log_output_of_scripts_are_left_out() -> None:
    text = "/* who */ logger.info('x');\n// delete msg['PID']\nmsg['PID']['PID.8']['PID.8.1'] = 'http://x'; return"

    (edit,) = edits(text, Names())
    assert edit.words == {"set": {"PID-8.1": {"value": "http://x"}}}


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [("PID-5", "PID-5.1", True), ("PID-5.1", "PID", True), ("PID-5", "PID-51", False), ("PID-3[2].1", "PID-3", True)],
)
def test_places_overlap_when_one_is_part_of_the_other(one: str, other: str, found: bool) -> None:
    assert overlap([one], [other]) is found


def test_the_command_writes_a_site_and_a_report_of_every_part(tmp_path: Path) -> None:
    file, out = tmp_path / "channel.xml", tmp_path / "out"
    file.write_bytes(export(steps=script("doThings()", name="by | hand")))

    ran = CliRunner().invoke(app, ["import", "mirth", str(file), "--out", str(out), "--json"], prog_name="radbridge")

    told_ = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert told_["wrote"] == ["config/bridge.yaml", "mappings/orders-to-pacs/source.yaml", "report.md"]
    assert [one["result"] for one in told_["report"]] == ["translated", "not translated", "translated"]
    assert "by \\| hand" in (out / "report.md").read_text(encoding="utf-8")
    assert parse_yaml((out / "config" / "bridge.yaml").read_text(encoding="utf-8"), "").data["routes"]
    shown = CliRunner().invoke(
        app, ["import", "mirth", str(file), "--out", str(tmp_path / "again")], prog_name="radbridge"
    )
    assert "not translated: source: JavaScriptStep by | hand" in shown.output
