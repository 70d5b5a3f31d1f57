"""Feed one target of tests/fuzz with Atheris, which is libFuzzer for Python.

    PYTHONPATH=.:FOLDER_OF_ATHERIS python tools/fuzz/run.py TARGET FOLDER SECONDS

What a run finds stays in FOLDER: the corpus grows from run to run, an input that broke the target lies beside it.
"""

import contextlib
import io
import random
import sys
from pathlib import Path

import atheris  # not among tccp's requirements: tools/fuzz/fuzz.mk installs it into a folder of its own

with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["tccp", "tomllib"]):
    from tests.fuzz.targets import TARGETS

BYTES_MAX = 65_536
VECTORS = Path(__file__).parents[2] / "tests" / "vectors"


def main(name: str, folder: Path, seconds: int) -> None:
    """Run the target called *name* until the time is over, or something breaks."""
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    for number, path in enumerate(sorted(VECTORS.glob(target.real)) if target.real else ()):
        if path.is_file() and path.stat().st_size <= BYTES_MAX:
            (corpus / f"real-{number}").write_bytes(path.read_bytes())

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        choice = random.Random(seed)  # noqa: S311 - the same input again from the same seed
        changed = target.mutate(data, choice) if target.mutate is not None and choice.random() < 0.7 else data
        return bytes(atheris.Mutate(data, len(data)) if changed == data else changed[:max_size])

    def feed(data: bytes) -> None:
        target.feed(data)

    options = [f"-max_total_time={seconds}", f"-max_len={BYTES_MAX}", f"-artifact_prefix={folder}/", "-timeout=10"]
    atheris.Setup([name, *options, "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1", str(corpus)], feed,
                  custom_mutator=change)  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
