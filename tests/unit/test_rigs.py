"""The real components that other tests stand on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kombu
import psutil
import pytest
import sqlalchemy as sa

from tests.rigs.need import REPOSITORY, require
from tests.rigs.postgres import Postgres
from tests.rigs.processes import wait_until
from tests.rigs.rabbitmq import RabbitMq


def test_a_store_url_is_an_empty_database(store_url: str) -> None:
    engine = sa.create_engine(store_url)

    assert sa.inspect(engine).get_table_names() == []

    with engine.begin() as tx:
        tx.execute(sa.text("CREATE TABLE filled (x INTEGER)"))
    engine.dispose()


def test_the_next_store_url_is_empty_again(store_url: str) -> None:
    engine = sa.create_engine(store_url)

    assert sa.inspect(engine).get_table_names() == []

    engine.dispose()


def test_postgres_syncs_its_commits(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)

    with engine.connect() as tx:
        settings = [tx.execute(sa.text(f"SHOW {name}")).scalar() for name in ("fsync", "synchronous_commit")]
    engine.dispose()

    assert settings == ["on", "on"]


def test_a_killed_postgres_comes_back_with_what_was_committed(postgres: Postgres, postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with engine.begin() as tx:
        tx.execute(sa.text("CREATE TABLE kept AS SELECT 42 AS x"))

    postgres.kill()
    postgres.start()

    with engine.connect() as tx:
        assert tx.execute(sa.text("SELECT x FROM kept")).scalar() == 42


def test_a_killed_broker_comes_back_and_carries_messages(rabbitmq: RabbitMq, rabbitmq_url: str) -> None:
    queue = kombu.Queue("rig", kombu.Exchange(""), "rig", queue_arguments={"x-queue-type": "quorum"})

    rabbitmq.kill()
    rabbitmq.start()

    with kombu.Connection(rabbitmq_url, transport_options={"confirm_publish": True}) as connection:
        bells = connection.SimpleQueue(queue)
        bells.put({"bell": 1}, timeout=30)
        message = bells.get(timeout=30)
        assert message.payload == {"bell": 1}
        message.ack()
        bells.close()


def test_a_missing_program_skips_a_test_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RADBRIDGE_REQUIRE_ALL", raising=False)

    with pytest.raises(pytest.skip.Exception, match="needs no-such-program: apt-get install such-a-package"):
        require("no-such-program", "such-a-package")


def test_a_missing_program_fails_where_all_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADBRIDGE_REQUIRE_ALL", "1")

    with pytest.raises(pytest.fail.Exception, match="needs no-such-program"):
        require("no-such-program")


def test_a_killed_test_run_leaves_no_program_behind(tmp_path: Path) -> None:
    script = (
        "import pathlib, signal, sys, os; from tests.rigs.processes import Process;"
        "child = Process(['sleep', '600'], pathlib.Path(sys.argv[1]));"
        "print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )

    killed = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "log"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    pid = int(killed.stdout)
    assert killed.returncode == -9
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the child's end", 10)
