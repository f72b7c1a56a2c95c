"""A real RabbitMQ node in a temporary folder, apart from any that the machine has."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

from tests.rigs.need import missing
from tests.rigs.processes import Process, free_port, listening


class RabbitMq:
    """One node with ports, cookie, port mapper and folders of its own."""

    def __init__(self) -> None:
        self._program = _program()
        self._folder = Path(tempfile.mkdtemp(prefix="radbridge-rabbitmq-"))
        self.port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        self._process: Process | None = None
        (self._folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\nloopback_users.guest = true\n")
        (self._folder / "enabled_plugins").write_text("[].\n")
        # The node would start a port mapper that outlives it; with one there, it uses that.
        mapper = [_mapper(), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._mapper = Process(mapper, self._folder / "epmd.log")
        self._mapper.wait_until(lambda: listening(self._epmd_port))
        self.start()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start it, or start it again after :meth:`halt` or :meth:`kill`; returns when it takes connections."""
        self._process = Process([self._program], self._folder / "node.log", env=self._environment(), cwd=self._folder)
        self._process.wait_until(lambda: listening(self.port), 120)

    def halt(self) -> None:
        """End it in an orderly way; its disk stays."""
        if self._process:
            self._process.stop(signal.SIGTERM, 60)
            self._process = None

    def kill(self) -> None:
        """As in a crash of the node; its disk stays."""
        if self._process:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process:
            self._process.stop(signal.SIGTERM, 30)
            self._process = None
        self._mapper.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"radbridge-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/rabbitmq-env.conf",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # The script then becomes the node instead of waiting for it, so that signals reach it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


def _program() -> Path:
    """The node's own script: Debian's wrapper on the path insists on a user, a folder and a log of its own."""
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))
    found = str(scripts[-1]) if scripts else shutil.which("rabbitmq-server")
    if not found:
        missing("RabbitMQ", "apt-get install rabbitmq-server")
    assert found
    return Path(found)


def _mapper() -> str:
    found = shutil.which("epmd")
    if not found:
        missing("epmd", "apt-get install rabbitmq-server")
    assert found
    return found
