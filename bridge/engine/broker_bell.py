"""The doorbell between nodes, through RabbitMQ."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from bridge.engine.doorbell import LocalDoorbell, Ring

log = structlog.get_logger(__name__)

VERSION = "1"
"""Part of every queue name: a queue cannot be declared again with other arguments."""


class BrokerDoorbell(LocalDoorbell):
    """Rings the other nodes too: one short-lived message per commit and destination, through one queue a destination.

    The queues are quorum queues with a single active consumer and room for one bell, so that bells pile up nowhere.
    A node listens for the destinations it owns. Publishing and listening run in threads of their own and reconnect
    for ever: without a broker the sweeper still finds everything.
    """

    HEARTBEAT = 2.0
    PAUSE = 1.0

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Ring, url: str) -> None:
        super().__init__(loop, ring)
        self._url = url
        self._outbox: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._exchange = Exchange(f"radbridge.bell.v{VERSION}", type="direct", durable=True)
        self._threads = [
            threading.Thread(target=self._forever, args=(work,), name=f"radbridge-bell-{name}", daemon=True)
            for name, work in (("out", self._publish), ("in", self._consume))
        ]
        for thread in self._threads:
            thread.start()

    def announce(self, destinations: set[str]) -> None:
        super().announce(destinations)
        self.tell_others(destinations)

    def tell_others(self, destinations: set[str]) -> None:
        """Ring at the other nodes only. Thread-safe."""
        self._outbox |= destinations
        self._wake.set()

    def listen(self, destinations: frozenset[str]) -> None:
        """Hear the bells of exactly these destinations from now on."""
        self._wanted = destinations

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def _queue(self, destination: str) -> Queue:
        arguments = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-max-length": 1,
            "x-overflow": "drop-head",
        }
        name = f"radbridge.bell.v{VERSION}.{destination}"
        return Queue(name, self._exchange, routing_key=destination, durable=True, queue_arguments=arguments)

    def _forever(self, work: Callable[[Connection], None]) -> None:
        while not self._closing.is_set():
            try:
                with Connection(self._url, heartbeat=self.HEARTBEAT, connect_timeout=3) as connection:
                    connection.connect()
                    log.info("broker_connected", part=threading.current_thread().name)
                    work(connection)
            except (OperationalError, OSError, *Connection(self._url).recoverable_connection_errors) as error:
                log.warning("broker_lost", part=threading.current_thread().name, error=type(error).__name__)
                self._closing.wait(self.PAUSE)

    def _publish(self, connection: Connection) -> None:
        producer = connection.Producer(auto_declare=True)
        declared: set[str] = set()
        beat = 0.0
        while not self._closing.is_set():
            self._wake.wait(self.HEARTBEAT / 2)
            self._wake.clear()
            names, self._outbox = self._outbox, set()
            for name in sorted(names):
                if name not in declared:
                    self._queue(name)(connection.default_channel).declare()
                    declared.add(name)
                producer.publish(b"", exchange=self._exchange, routing_key=name, delivery_mode=1)
            if time.monotonic() >= beat:
                _beat(connection)
                beat = time.monotonic() + self.HEARTBEAT / 2

    def _consume(self, connection: Connection) -> None:
        while not self._closing.is_set():
            wanted = self._wanted
            queues = [self._queue(name) for name in sorted(wanted)]
            if not queues:
                self._closing.wait(0.1)
                _beat(connection)
                continue
            with connection.Consumer(queues, on_message=self._heard, no_ack=False):
                while wanted == self._wanted and not self._closing.is_set():
                    try:
                        connection.drain_events(timeout=0.5)
                    except TimeoutError:
                        connection.heartbeat_check()

    def _heard(self, message: Any) -> None:
        name = message.delivery_info["routing_key"]
        message.ack()
        LocalDoorbell.announce(self, {name})


def _beat(connection: Connection) -> None:
    """Send our heartbeat and read the broker's: unread, it counts as missed."""
    with suppress(TimeoutError):
        while True:
            connection.drain_events(timeout=0.001)
    connection.heartbeat_check()
