"""An editor's talk with npm's yaml-language-server, which most editors use for YAML (LSP 3.17)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.rigs.npm import installed

_HERE = Path(__file__).with_name("yaml_npm")


class Editor:
    """One session with the server: files are opened, and asked about by line and column (from 0)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._diagnostics: dict[str, asyncio.Future[list[dict[str, Any]]]] = {}

    async def open(self, path: Path, text: str | None = None) -> list[dict[str, Any]]:
        """Open a file with its text, or one that is not saved; what the server underlines in it."""
        uri = path.as_uri()
        self._diagnostics[uri] = asyncio.get_running_loop().create_future()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": path.read_text() if text is None else text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return await asyncio.wait_for(self._diagnostics[uri], 60)

    async def completions(self, path: Path, line: int, column: int) -> list[str]:
        found = await self._ask("textDocument/completion", _at(path, line, column))
        return [item["label"] for item in (found["items"] if isinstance(found, dict) else found)]

    async def hover(self, path: Path, line: int, column: int) -> str:
        found = await self._ask("textDocument/hover", _at(path, line, column))
        contents = found["contents"] if found else ""
        return str(contents["value"] if isinstance(contents, dict) else contents)

    async def start(self) -> None:
        await self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self._send({"method": "initialized", "params": {}})
        settings = {"yaml": {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False}}}
        self._send({"method": "workspace/didChangeConfiguration", "params": {"settings": settings}})

    async def listen(self) -> None:
        """Take what the server says, until it ends."""
        while head := await self._out.readline():
            length = int(head.split(b":")[1])
            while (await self._out.readline()).strip():
                pass
            self._take(json.loads(await self._out.readexactly(length)))

    def _take(self, said: dict[str, Any]) -> None:
        if "method" not in said:
            self._answers.pop(said["id"]).set_result(said.get("result"))
        elif said["method"] == "textDocument/publishDiagnostics":
            waiting = self._diagnostics.get(said["params"]["uri"])
            if waiting and not waiting.done():
                waiting.set_result(said["params"]["diagnostics"])
        elif "id" in said:
            self._send({"id": said["id"], "result": None})

    async def _ask(self, method: str, params: Any) -> Any:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        self._send({"id": self._number, "method": method, "params": params})
        return await asyncio.wait_for(answer, 60)

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._in.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)


def _at(path: Path, line: int, column: int) -> dict[str, Any]:
    return {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": column}}


@asynccontextmanager
async def editor() -> AsyncIterator[Editor]:
    """An editor with the YAML language server started; what it knows of a file's schema stands in its first line."""
    command = await asyncio.to_thread(installed, _HERE, "server.mjs")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    made = Editor(process)
    task = asyncio.create_task(made.listen())
    try:
        await asyncio.wait_for(made.start(), 60)
        yield made
    finally:
        process.terminate()
        await process.wait()
        await task
