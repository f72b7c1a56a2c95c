"""docker-compose.yml and Dockerfile say the same as the settings; they hold no secret."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from bridge.ports import HostPort
from bridge.settings import from_files, load
from bridge.settings.model import Overrides
from tests.rigs.need import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ENGINE: dict[str, Any] = SERVICES["radbridge"]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
SITE = (REPOSITORY / "config" / "bridge.yaml").read_text()


def environment() -> dict[str, str]:
    """What the engine's container sees, each secret as ``secret``."""
    return {name: re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value) for name, value in ENGINE["environment"].items()}


def ports(config: Any) -> set[int]:
    listens = [getattr(channel, "listen", None) for channel in config.channels.values()]
    return {config.web.listen.port, *(listen.port for listen in listens if isinstance(listen, HostPort))}


def test_every_port_that_the_site_file_opens_is_published_on_this_machine_only() -> None:
    config = load(REPOSITORY / "config" / "bridge.yaml", overrides=Overrides.model_construct(), environ={}).config
    published = [entry.split(":") for entry in ENGINE["ports"]]

    assert all(host == "127.0.0.1" and outside == inside for host, outside, inside in published)
    assert {int(inside) for _, _, inside in published} == ports(config)
    assert {int(port) for port in re.findall(r"\d+", DOCKERFILE.split("EXPOSE")[1].split("\n")[0])} == ports(config)


def test_the_container_listens_to_more_than_itself() -> None:
    seen = environment()
    overrides = Overrides.model_validate({name.removeprefix("RADBRIDGE_").lower(): text for name, text in seen.items()})

    config = from_files({"config/bridge.yaml": SITE}, overrides=overrides, environ=seen).checked

    assert config is not None
    assert config.web.listen == HostPort("0.0.0.0", 8080)
    listens = [getattr(channel, "listen", None) for channel in config.channels.values()]
    assert {listen.host for listen in listens if listen} == {"0.0.0.0"}
    assert config.store.url == "postgresql+psycopg://radbridge:secret@postgres/radbridge"
    assert config.broker.url == "amqp://radbridge:secret@rabbitmq"
    assert config.web.token.get_secret_value() == "secret"


def test_every_variable_is_one_that_the_engine_reads() -> None:
    known = {f"RADBRIDGE_{name.upper()}" for name in Overrides.model_fields} | set(re.findall(r"\$\{(\w+)", SITE))

    assert set(ENGINE["environment"]) <= known
    assert set(re.findall(r"\b(RADBRIDGE_\w+)=", DOCKERFILE)) <= known


def test_the_data_folder_is_a_volume() -> None:
    folder = ENGINE["environment"]["RADBRIDGE_DATA"]

    assert f"state:{folder}" in ENGINE["volumes"]
    assert f"VOLUME {folder}" in DOCKERFILE
    assert f"RADBRIDGE_DATA={folder}" in DOCKERFILE


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_restarted_and_keeps_its_state(name: str) -> None:
    service = SERVICES[name]
    named = [entry.split(":")[0] for entry in service["volumes"] if not entry.startswith(".")]

    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert named and set(named) <= set(COMPOSE["volumes"])


def test_the_engine_waits_for_what_it_needs() -> None:
    assert ENGINE["depends_on"] == {name: {"condition": "service_healthy"} for name in SERVICES if name != "radbridge"}


def test_no_secret_is_written_down() -> None:
    secrets = [
        (name, str(value))
        for service in SERVICES.values()
        for name, value in service["environment"].items()
        if re.search("PASS|TOKEN|SECRET", name) or "@" in str(value)
    ]

    assert len(secrets) >= 5
    for _, value in secrets:
        assert re.search(r"(^|:)\$\{\w+:\?[^}]+\}", value)
    assert ".env" in (REPOSITORY / ".gitignore").read_text().split()


def test_what_the_image_copies_is_there() -> None:
    sources = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]

    assert sources
    assert [name for name in sources if not (REPOSITORY / name).exists()] == []
    mounted = {entry.split(":")[0].removeprefix("./") for entry in ENGINE["volumes"] if entry.startswith("./")}
    assert mounted == {"config", "mappings", "adapters"}
