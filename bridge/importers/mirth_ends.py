"""Mirth's connectors as channels: the settings that have one here, and remarks on those that have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.importers.mirth_export import Connector
from bridge.importers.mirth_script import Untranslated

_CHARSETS = {"UTF-8": "UNICODE UTF-8", "ISO-8859-1": "8859/1", "ISO-8859-15": "8859/15", "US-ASCII": "ASCII"}
_WHOLE = ("${message.encodedData}", "${message.rawData}", "")


@dataclass(slots=True)
class End:
    """A channel's settings, and what of the connector is different now."""

    settings: dict[str, Any]
    remarks: list[str] = field(default_factory=list)


def channel(connector: Connector) -> End:
    """The channel that a connector becomes. Raises Untranslated if there is none like it."""
    known = _KINDS.get(connector.kind)
    if known is None:
        raise Untranslated(_REASONS.get(connector.kind, f"there is no channel like {connector.kind or 'it'}"))
    end = known(connector)
    if any("${" in str(value) for value in end.settings.values()):
        raise Untranslated("where it leads depends on a variable of the engine")
    return end


def _tcp_in(one: Connector) -> End:
    _needs_mllp(one)
    if one.setting("serverMode") == "false":
        raise Untranslated("it connects to its sender; our channels listen")
    host, port = one.setting("listenerConnectorProperties/host"), one.setting("listenerConnectorProperties/port")
    settings: dict[str, Any] = {"type": "mllp-in", "listen": f"{host or '0.0.0.0'}:{port}"}
    _number(settings, "max_connections", one.setting("maxConnections"))
    _millis(settings, "idle_timeout", one.setting("receiveTimeout"))
    return _charset(End(settings), one)


def _tcp_out(one: Connector) -> End:
    _needs_mllp(one)
    if one.setting("serverMode") == "true":
        raise Untranslated("it waits for its receiver to connect; our channels connect")
    settings: dict[str, Any] = {
        "type": "mllp-out",
        "connect": f"{one.setting('remoteAddress')}:{one.setting('remotePort')}",
    }
    if one.setting("keepConnectionOpen") == "false":
        settings["connection"] = "per_message"
    _millis(settings, "ack_timeout", one.setting("responseTimeout"))
    end = End(settings)
    if one.setting("ignoreResponse") == "true":
        end.remarks.append("it ignored the receiver's answer; here AA or CA is waited for")
    return _sends(end, one)


def _file_in(one: Connector) -> End:
    _needs_local(one)
    settings: dict[str, Any] = {"type": "file-in", "folder": one.setting("host")}
    if one.setting("regex") == "true" or "," in one.setting("fileFilter"):
        raise Untranslated("it chooses files by several patterns or a regular expression; our channel has one pattern")
    if one.setting("fileFilter"):
        settings["pattern"] = one.setting("fileFilter")
    _millis(settings, "poll", one.setting("pollConnectorProperties/pollingFrequency"))
    end = End(settings)
    if one.setting("afterProcessingAction") == "DELETE":
        settings["after"] = "delete"
    else:
        end.remarks.append("files that were taken are moved to done/, refused ones to refused/")
    if one.setting("directoryRecursion") == "true":
        end.remarks.append("folders inside the folder are not looked through")
    return _charset(end, one)


def _file_out(one: Connector) -> End:
    _needs_local(one)
    end = End({"type": "file-out", "folder": one.setting("host")})
    end.remarks.append(f"files are called by the message's and the delivery's id, not `{one.setting('outputPattern')}`")
    if one.setting("outputAppend") == "true":
        end.remarks.append("each message is a file of its own; nothing is appended")
    return _sends(end, one)


def _http_in(one: Connector) -> End:
    host, port = one.setting("listenerConnectorProperties/host"), one.setting("listenerConnectorProperties/port")
    path = "/" + one.setting("contextPath").strip("/")
    return _charset(End({"type": "http-in", "listen": f"{host or '0.0.0.0'}:{port}", "path": path}), one, "charset")


def _http_out(one: Connector) -> End:
    if one.setting("method").upper() not in ("POST", ""):
        raise Untranslated(f"it sends {one.setting('method')}; our channel posts")
    settings: dict[str, Any] = {"type": "http-out", "url": one.setting("host")}
    kind = one.setting("contentType").partition(";")[0].strip()
    if kind and kind != "text/plain":
        settings["content_type"] = kind
    end = End(settings)
    if one.setting("useAuthentication") == "true":
        end.remarks.append("its user and password are not taken over; a bearer token is the setting `token`")
    return _sends(end, one, "content")


def _needs_mllp(one: Connector) -> None:
    mode = one.setting("transmissionModeProperties/pluginPointName")
    if mode not in ("MLLP", ""):
        raise Untranslated(f"its transmission mode is {mode}; only MLLP is known here")


def _needs_local(one: Connector) -> None:
    scheme = one.setting("scheme").upper()
    if scheme not in ("FILE", ""):
        raise Untranslated(f"it reaches its folder by {scheme}; mount it, and use a file channel")


def _sends(end: End, one: Connector, template: str = "template") -> End:
    """What every destination has: retries, threads and the template of what is sent."""
    wanted = one.setting(template)
    if wanted not in _WHOLE:
        raise Untranslated("it sends a text of its own instead of the message")
    queued = one.setting("destinationConnectorProperties/queueEnabled") == "true"
    again = one.setting("destinationConnectorProperties/retryCount")
    retry: dict[str, Any] = {}
    if queued or again not in ("", "0"):
        _millis(retry, "first", one.setting("destinationConnectorProperties/retryIntervalMillis"))
    if again not in ("", "0") and not queued:
        retry["attempts"] = int(again) + 1
    if retry:
        end.settings["retry"] = retry
    if one.setting("destinationConnectorProperties/threadCount") not in ("", "0", "1"):
        end.remarks.append("it sent on several threads, in any sequence; here sequence is kept (`lane`, `parallel`)")
    return end


def _charset(end: End, one: Connector, path: str = "charsetEncoding") -> End:
    wanted = one.setting(path)
    if wanted in _CHARSETS:
        end.settings["charset"] = _CHARSETS[wanted]
    elif wanted not in ("", "DEFAULT_ENCODING"):
        end.remarks.append(f"its character set {wanted} is not taken over; see the setting `charset`")
    return end


def _number(settings: dict[str, Any], name: str, text: str) -> None:
    if text.isdecimal() and int(text) > 0:
        settings[name] = int(text)


def _millis(settings: dict[str, Any], name: str, text: str) -> None:
    if text.isdecimal() and int(text) > 0:
        settings[name] = f"{text}ms"


_KINDS: dict[str, Callable[[Connector], End]] = {
    "TcpReceiver": _tcp_in,
    "TcpDispatcher": _tcp_out,
    "FileReceiver": _file_in,
    "FileDispatcher": _file_out,
    "HttpReceiver": _http_in,
    "HttpDispatcher": _http_out,
}
_REASONS = {
    "VmReceiver": "it takes messages from other channels: name their channel in the route's `from`",
    "VmDispatcher": "it hands on to another channel: add that channel's routes here",
    "DICOMReceiver": "it takes images, which this engine does not carry; the worklist is a `dicom-worklist` channel",
    "DICOMDispatcher": "it sends images, which this engine does not carry",
    "DatabaseReceiver": "it reads a database",
    "DatabaseDispatcher": "it writes to a database",
    "JavaScriptReceiver": "it is a program",
    "JavaScriptDispatcher": "it is a program",
    "SmtpDispatcher": "it sends mail",
    "WebServiceReceiver": "it speaks SOAP",
    "WebServiceDispatcher": "it speaks SOAP",
    "JmsReceiver": "it reads a JMS queue",
    "JmsDispatcher": "it writes to a JMS queue",
}
