"""What is committed says nothing of the machine it was written on, nor of where packages came from."""

from __future__ import annotations

import re
import subprocess

from tests.rigs.need import REPOSITORY, require

HOSTS = ("pypi", "files.pythonhosted", "pythonhosted", "registry.npmjs", "npmjs", "deb.debian", "security.debian")
MACHINE = re.compile(
    rf"\b(?:{'|'.join(re.escape(host) for host in HOSTS)})\.(?:org|com)\b|(?<![\w.~])/(?:work|root|home/[a-z]+)/"
)


def committed() -> list[str]:
    """Names of all files that are, or would be, committed."""
    command = [require("git"), "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()


def told(text: str) -> list[str]:
    lines = enumerate(text.splitlines(), 1)
    return [f"{number}: {line.strip()[:100]}" for number, line in lines if MACHINE.search(line)]


def test_no_committed_file_names_a_machine_path_or_a_registry_host() -> None:
    found = {}
    for name in committed():
        path = REPOSITORY / name
        if path.is_file() and (lines := told(path.read_bytes().decode("utf-8", "replace"))):
            found[name] = lines

    assert found == {}


def test_the_guard_sees_what_it_is_there_for() -> None:
    host, folder = ".".join(("pypi", "org")), "/".join(("", "root", "x"))

    assert told(f"index-url = https://{host}/simple\nopen('{folder}')\nfine") == [
        f"1: index-url = https://{host}/simple",
        f"2: open('{folder}')",
    ]


def test_no_lock_file_is_committed() -> None:
    locks = {"package-lock.json", "yarn.lock", "poetry.lock", "uv.lock", "Pipfile.lock", "pdm.lock"}

    assert [name for name in committed() if name.rpartition("/")[2] in locks] == []
