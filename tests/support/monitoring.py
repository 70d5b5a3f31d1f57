"""A monitoring system's view of a daemon: its HTTP port, and Prometheus' own checker of what it says."""

import subprocess
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Page:
    """An answer over HTTP."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text

    @property
    def samples(self) -> Samples:
        """Every number by its name and its labels."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    @property
    def names(self) -> set[str]:
        """The names that can be asked for, also of those that have no number yet."""
        names = {name for name, _ in self.samples}
        for family in text_string_to_metric_families(self.text):
            names.add(family.name + ("_total" if family.type == "counter" else ""))
        return names

    def number(self, name: str, **labels: str) -> float:
        """One number."""
        return self.samples[name, tuple(sorted(labels.items()))]


async def page(listening: str, path: str) -> Page:
    """What the daemon that listens there says."""
    return await trio.to_thread.run_sync(partial(_fetch, f"http://{listening}{path}"))


def _fetch(url: str) -> Page:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 a URL of ours
            return Page(answer.status, answer.read().decode())
    except urllib.error.HTTPError as problem:
        with problem:
            return Page(problem.code, problem.read().decode())


def promtool(*words: str | Path, text: str = "") -> tuple[int, str]:
    """Run Prometheus' checker: its exit code, and what it says."""
    done = subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
