"""A wire between the engine and PostgreSQL that breaks at a chosen COMMIT, so that its outcome stays unknown."""

from __future__ import annotations

import asyncio
import contextlib

_COMMIT = b"COMMIT\x00"


class PostgresProxy:
    """Passes everything on, until :meth:`lose` says otherwise."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lose, self._reaching = b"", True
        self.lost = 0
        """Commits whose answer was lost."""
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose(self, text: str, *, reaching: bool) -> None:
        """Break the connection at the COMMIT of the next transaction that sends ``text``: after PostgreSQL has
        carried it out (``reaching``), or before it sees it."""
        self._lose, self._reaching = text.encode(), reaching

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            back = asyncio.create_task(self._pass_on(up_reader, writer))
            try:
                await self._requests(reader, up_writer, up_reader, back)
            finally:
                back.cancel()
                up_writer.close()
        writer.close()
        self._tasks.discard(task)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        back: asyncio.Task[None],
    ) -> None:
        meant = False
        while data := await reader.read(1 << 16):
            if self._lose and self._lose in data:
                meant, self._lose = True, b""
            if meant and _COMMIT in data:
                self.lost += 1
                if self._reaching:
                    # The answers so far have been passed on: what comes now is this commit's.
                    back.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await back
                    up_writer.write(data)
                    await up_reader.read(1 << 16)
                return
            up_writer.write(data)
            await up_writer.drain()

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()
