"""Keylime 7.14.3 as the peer of benchmarks, in a virtual environment of its own that is made once.

Its requirements.lock is made on purpose, from requirements.in, as the project's own is:

    uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \\
        --output-file bench/keylime_peer/requirements.lock bench/keylime_peer/requirements.in
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def environment(folder: Path) -> Path:
    """The interpreter of Keylime's environment below *folder*; made when it is missing or of another lock."""
    lock = (HERE / "requirements.lock").read_text()
    home, made_of = folder / "keylime", folder / "keylime" / "made-of.lock"
    python = home / "bin" / "python"
    if not made_of.exists() or made_of.read_text() != lock:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", HERE / "requirements.lock"], check=True)
        made_of.write_text(lock)
    return python


def run(folder: Path, script: str, given: Any, *arguments: str) -> Any:
    """What a script of this folder prints, as JSON, when it gets *given* as JSON."""
    command = [environment(folder), HERE / script, *arguments]
    finished = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{script}: {finished.stderr[-2000:]}")
    return json.loads(finished.stdout)
