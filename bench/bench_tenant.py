"""What a tenant's looks cost the coordinator and her, how fast a log is audited, and how fast a witness cosigns.

    pytest bench/bench_tenant.py && python -m bench.report

There is no peer to measure beside: no other product lets its tenants do this. The limits that matter are that a look is
nothing to wait for, that a flood of them leaves the TPM to nodes, and that a witness is never the log's limit.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from bench.conftest import Section
from tccp.tenant.log_source import Audit, read_entries
from tccp.tenant.policy import TenantPolicy, parse_tenant_policy
from tccp.tenant.trust import add_trust, check_trust
from tccp.tenant.trust_store import TrustStore
from tccp.transparency.checkpoint import Checkpoint, verify_checkpoint
from tccp.transparency.note import NoteSigner, SignatureType
from tccp.transparency.proof import TileHashes, prove_consistency
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.witness import cosign
from tccp.transparency.writer import LogWriter
from tccp.witness.memory import WitnessMemory, create_memory
from tests.support.perimeter import Perimeter
from tests.transparency.support import signer

ENTRIES = 100_000
STEPS = 200
AT_ONCE = 16


@pytest.fixture(scope="module")
def section() -> Iterator[Section]:
    made = Section(
        "Tenants and witnesses",
        "`pytest bench/bench_tenant.py`. The real coordinator with a software TPM, which quotes in about 1 ms and "
        "activates in about 10; medians. A look is a TLS connection, a quote, its verification, the proof that the log "
        "continues what was seen, and a synced file. No peer: nobody else has these.",
        ["work", "a second", "p50", "p99"],
    )
    yield made
    made.save()


@pytest.fixture(scope="module")
def perimeter() -> Iterator[Perimeter]:
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder, Perimeter(Path(folder)) as running:
        yield running


def policy_of(perimeter: Perimeter, *, by_ak: bool) -> TenantPolicy:
    words: list[str | Path] = [
        Path(sys.executable).parent / "tccp",
        "coordinator",
        "trust",
        "--tenant",
        "--socket",
        perimeter.control,
    ]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    if not by_ak:
        authorities = f'ek_authorities = "{perimeter.directory}/ek-authorities"'
        text = "".join(f"{authorities if line.startswith('ak = ') else line}\n" for line in text.splitlines())
    return parse_tenant_policy(text.encode())


def row(section: Section, work: str, benchmark: Any) -> None:
    times = benchmark.stats.stats.sorted_data
    p50, p99 = (f"{1e3 * times[min(int(len(times) * share), len(times) - 1)]:.1f} ms" for share in (0.5, 0.99))
    section.rows.append([work, "", p50, p99])


@pytest.mark.parametrize("by_ak", [False, True], ids=["activation", "known AK"])
def test_a_coordinator_is_pinned(
    by_ak: bool, benchmark: Any, perimeter: Perimeter, section: Section, tmp_path: Path
) -> None:
    policy, store = policy_of(perimeter, by_ak=by_ak), TrustStore(tmp_path)
    address = f"127.0.0.1:{perimeter.tenants_port}"
    benchmark.pedantic(lambda: add_trust(store, "tc", address, policy), rounds=60, warmup_rounds=3)
    row(
        section, f"a coordinator is verified and pinned, {'its AK known' if by_ak else 'with an activation'}", benchmark
    )


def test_a_look(benchmark: Any, perimeter: Perimeter, section: Section, tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    add_trust(store, "tc", f"127.0.0.1:{perimeter.tenants_port}", policy_of(perimeter, by_ak=True))
    benchmark.pedantic(lambda: check_trust(store, "tc"), rounds=200, warmup_rounds=3)
    row(section, "a look at it, one at a time", benchmark)


def test_looks_of_many(benchmark: Any, perimeter: Perimeter, section: Section, tmp_path: Path) -> None:
    stores = [TrustStore(tmp_path / str(number)) for number in range(AT_ONCE)]
    for store in stores:
        add_trust(store, "tc", f"127.0.0.1:{perimeter.tenants_port}", policy_of(perimeter, by_ak=True))

    def look() -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda store: [check_trust(store, "tc") for _ in range(5)], stores))

    benchmark.pedantic(look, rounds=7, warmup_rounds=1)
    section.rows.append(
        [f"looks of {AT_ONCE} tenants at once, all on this machine",
         f"{5 * AT_ONCE / benchmark.stats.stats.median:,.0f}", "", ""]
    )  # fmt: skip


@pytest.fixture(scope="module")
def log() -> Iterator[TileDirectory]:
    """A log of `ENTRIES`, of 200 bytes each, in steps."""
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder:
        with LogWriter.create(Path(folder) / "log", signer()) as writer:
            for first in range(0, ENTRIES, ENTRIES // STEPS):
                writer.append(first, [b"%0200d" % number for number in range(first, first + ENTRIES // STEPS)])
        yield TileDirectory(Path(folder) / "log")


def head_of(log: TileDirectory) -> Checkpoint:
    note = log.read_checkpoint()
    assert note is not None
    return verify_checkpoint(note, origin=signer().key.name, log_key=signer().key).checkpoint


def test_an_audit(benchmark: Any, log: TileDirectory, section: Section) -> None:
    head = head_of(log)

    def audit() -> None:
        found = Audit()
        for _, entry in read_entries(log, head.size):
            found.add(entry)
        found.compare(head)

    benchmark.pedantic(audit, rounds=5, warmup_rounds=1)
    section.rows.append(["entries audited, from a directory", f"{ENTRIES / benchmark.stats.stats.median:,.0f}", "", ""])


def test_a_witness_cosigns(benchmark: Any, log: TileDirectory, section: Section, tmp_path: Path) -> None:
    """Without HTTP: signature, proof, a synced file, cosignature; each step a new head."""
    create_memory(tmp_path / "w")
    memory = WitnessMemory(tmp_path / "w")
    own = NoteSigner("witness.example", SigningKey(bytes(32)), SignatureType.COSIGNATURE)
    sizes = range(ENTRIES // STEPS, ENTRIES + 1, ENTRIES // STEPS)
    steps, last = [], 0
    for size in sizes:
        hashes = TileHashes(log.read_tile, size)
        text = Checkpoint(signer().key.name, size, hashes.range_hash(0, size)).text()
        note = f"{text}\n{signer().sign(text)}".encode()
        steps.append((note, prove_consistency(hashes, last) if last else []))
        last = size
    times: list[float] = []

    def cosign_all() -> None:
        (tmp_path / "w" / "logs").joinpath("x").unlink(missing_ok=True)
        latest = None
        for note, proof in steps:
            began = time.perf_counter()
            new = verify_checkpoint(note, origin=signer().key.name, log_key=signer().key)
            latest, _ = cosign(own, latest, new, proof, at_s=1)
            memory.remember(latest.origin, note)
            times.append(time.perf_counter() - began)

    benchmark.pedantic(cosign_all, rounds=3)
    times.sort()
    p50, p99 = (f"{1e3 * times[int(len(times) * share)]:.2f} ms" for share in (0.5, 0.99))
    section.rows.append(
        ["heads cosigned by a witness, durable", f"{STEPS / benchmark.stats.stats.median:,.0f}", p50, p99]
    )
