"""What the fuzz targets share: how one is started and where its inputs come from. How to run them: docs/fuzzing.md."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tests.fuzz.mutate import cross, mutate
from tests.rigs.need import DATA, REPOSITORY

CORPUS = Path(__file__).parent / "corpus"
SAMPLES = REPOSITORY / "mappings/samples"
REAL = sorted(path for path in (DATA / "hl7").glob("*") if path.is_dir())
"""Real messages, read where they are. Without them the committed samples and corpus are the seeds."""
_LIMITS = ["-timeout=10", "-rss_limit_mb=512", "-max_len=2500", "-len_control=0", "-print_final_stats=1"]


def instrumented(name: str) -> AbstractContextManager[object]:
    """Where a target imports the codecs: watched for coverage when the target is what is run."""
    if name != "__main__":
        return nullcontext()
    import atheris

    context: AbstractContextManager[object] = atheris.instrument_imports(include=["bridge.codecs"])
    return context


def fuzz(check: Callable[[bytes], None]) -> None:
    """Run a target with libFuzzer's options from the command line. An input for which ``check`` raises is a find.

    The first directory named takes the inputs that reached something new (``found-*``: the finds); none named: a new
    temporary one. Files named are run once each, and nothing else.
    """
    import atheris

    def mutator(data: bytes, size: int, seed: int) -> bytes:
        mutated: bytes = atheris.Mutate(data, size) if seed % 4 == 0 else mutate(data, size, seed)
        return mutated

    options = [one for one in sys.argv[1:] if one.startswith("-")]
    named = [Path(one) for one in sys.argv[1:] if not one.startswith("-")]
    if not any(path.is_file() for path in named):
        named = named or [Path(tempfile.mkdtemp(prefix="radbridge-fuzz-"))]
        options = [f"-artifact_prefix={named[0]}/found-", *options]
        named += [CORPUS, SAMPLES, *REAL]
    arguments = [sys.argv[0], *_LIMITS, *options, *map(str, named)]
    atheris.Setup(arguments, check, custom_mutator=mutator, custom_crossover=cross)
    atheris.Fuzz()
