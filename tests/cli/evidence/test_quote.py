"""``tccp evidence quote``: files of tpm2-tools and of clouds, genuine and tampered with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.evidence.conftest import Run
from tests.cli.running import Ended, tccp
from tests.support.soft_tpm import SoftTpmPool
from tests.support.tpm2_tools import Tpm2Tools

VECTORS = Path(__file__).parents[2] / "vectors" / "quote"
TABLE: list[dict[str, Any]] = json.loads((VECTORS / "vectors.json").read_text())
NONCE = bytes(range(32)).hex()
KEY_FORMS = ("pem", "der", "tss", "tpmt")


class QuoteFiles:
    """A folder with what tpm2_createak and tpm2_quote wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arguments(self, ak: str = "ak.pem", *more: str | Path) -> tuple[str | Path, ...]:
        folder = self.folder
        return ("quote", "--ak", folder / ak, "--message", folder / "quote", "--signature", folder / "signature", *more)

    @property
    def all(self) -> tuple[str | Path, ...]:
        return self.arguments("ak.tss", "--nonce", NONCE, "--pcrs", self.folder / "pcrs")


class Quoter(QuoteFiles):
    """Such a folder with the TPM beside it, which can quote again."""

    def __init__(self, tools: Tpm2Tools, algorithm: str = "ecc", scheme: str = "ecdsa") -> None:
        super().__init__(tools.directory)
        self.tools = tools
        for command in (
            "createek -c ek.ctx -G ecc -u ek.pub",
            f"createak -C ek.ctx -c ak.ctx -G {algorithm} -g sha256 -s {scheme} -u ak.pem -f pem",
            *(f"readpublic -c ak.ctx -o ak.{form} -f {form}" for form in KEY_FORMS),
        ):
            self._run(command)

    def quote(self, pcrs: str, *more: str) -> None:
        self._run(f"quote -c ak.ctx -l {pcrs} -q {NONCE} -m quote -s signature -o pcrs -g sha256", *more)

    def _run(self, command: str, *more: str) -> None:
        self.tools.run(*command.split(), *more)
        self.tools.run("flushcontext", "-t")


@pytest.fixture(scope="module")
def made_once(soft_tpms: SoftTpmPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a quote, for all tests that only read them."""
    with soft_tpms.lend() as soft_tpm:
        quoter = Quoter(Tpm2Tools(soft_tpm, tmp_path_factory.mktemp("quote")))
        quoter.quote("sha256:0,4,7")
        return quoter.folder


@pytest.fixture
def files(made_once: Path, tmp_path: Path) -> QuoteFiles:
    """A copy of them, to tamper with."""
    return QuoteFiles(Path(shutil.copytree(made_once, tmp_path / "files")))


@pytest.fixture
def quoter(tools: Tpm2Tools) -> Quoter:
    made = Quoter(tools)
    made.quote("sha256:0,4,7")
    return made


def assert_refused(ended: Ended, reason: str) -> None:
    assert ended.code == 1
    assert ended.document["verdict"] == "refused"
    assert ended.document["error"] == reason
    assert set(ended.document) >= {"detail", "hint", "checked", "found", "not_proved"}


def test_the_files_of_tpm2_quote_are_accepted(files: QuoteFiles) -> None:
    ended = tccp("evidence", *files.all)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"{files.folder}/quote: accepted"
    assert f"nonce       {NONCE}" in ended.out
    assert "PCRs        sha256: 0, 4, 7" in ended.out
    assert "a coordinator that had asked for just this would take it" in ended.out
    assert ended.out.splitlines()[-2:] == [
        "not proved",
        "  whose TPM it is: credential activation binds an AK to an endorsement key",
    ]


@pytest.mark.parametrize("key", KEY_FORMS)
def test_the_ak_may_come_in_any_form_of_tpm2_tools(key: str, files: QuoteFiles, run: Run) -> None:
    ended = run(*files.arguments(f"ak.{key}", "--json"))

    assert ended.code == 0
    is_public_area = key in {"tss", "tpmt"}
    assert bool(ended.document["quote"]["ak_name"]) == is_public_area
    assert any("restricted" in line for line in ended.document["checked"]) == is_public_area


@pytest.mark.parametrize(("algorithm", "scheme"), [("rsa", "rsassa"), ("rsa", "rsapss"), ("ecc", "ecdsa")])
@pytest.mark.parametrize("form", ["-f tss -F serialized", "-f tss -F values", "-f plain -F serialized"])
def test_every_format_that_tpm2_quote_writes_is_read(
    algorithm: str, scheme: str, form: str, tools: Tpm2Tools, run: Run
) -> None:
    quoter = Quoter(tools, algorithm, scheme)
    quoter.quote("sha256:0,1,2,3,4,5,6,7,8,9", *form.split(), "--scheme", scheme)

    document = run(*quoter.all, "--json").document

    assert document["verdict"] == "accepted"
    assert document["quote"]["scheme"] == scheme
    assert list(document["pcrs"]["sha256"]) == [str(index) for index in range(10)]


def test_what_is_not_given_is_said_to_be_unproved(files: QuoteFiles, run: Run) -> None:
    document = run(*files.arguments("ak.pem", "--json")).document

    assert document["verdict"] == "accepted"
    unproved = "\n".join(document["not_proved"])
    for what in ("whose TPM", "signs nothing but", "freshness", "PCR values"):
        assert what in unproved
    assert not any("coordinator" in line for line in document["checked"])


def test_pcr_values_may_come_from_tpm2_pcrread(quoter: Quoter, run: Run) -> None:
    (quoter.folder / "text").write_text(quoter.tools.run("pcrread", "sha256:0,1,2,3,4,7+sha384:0"))

    ended = run(*quoter.arguments("ak.tss", "--nonce", NONCE, "--pcrs", quoter.folder / "text", "--json"))

    assert ended.document["verdict"] == "accepted"


def test_the_json_of_one_quote_serves_as_pcr_file_of_the_next(files: QuoteFiles, run: Run) -> None:
    (files.folder / "document").write_text(run(*files.all, "--json").out)

    assert run(*files.arguments("ak.tss", "--nonce", NONCE, "--pcrs", files.folder / "document", "--json")).code == 0


def test_a_quote_of_several_banks_is_shown_and_its_values_checked(quoter: Quoter, run: Run) -> None:
    quoter.quote("sha256:0,1+sha384:2")

    document = run(*quoter.all, "--json").document

    assert document["verdict"] == "accepted"
    assert document["quote"]["selections"] == [{"bank": "sha256", "pcrs": [0, 1]}, {"bank": "sha384", "pcrs": [2]}]
    assert any("coordinator" in line for line in document["not_proved"])


def test_resettable_pcrs_are_pointed_out(quoter: Quoter, run: Run) -> None:
    quoter.quote("sha256:all")

    document = run(*quoter.all, "--json").document

    assert document["verdict"] == "accepted"
    assert any(line.startswith("PCR 16, 23: any software") for line in document["not_proved"])


def test_a_pcr_extended_after_reading_is_found(quoter: Quoter, run: Run) -> None:
    stale = (quoter.folder / "pcrs").read_bytes()
    quoter.tools.run("pcrextend", f"4:sha256={'11' * 32}")
    quoter.quote("sha256:0,4,7")
    (quoter.folder / "pcrs").write_bytes(stale)

    assert_refused(run(*quoter.all, "--json"), "pcr_digest_mismatch")


def test_another_nonce_is_refused(files: QuoteFiles, run: Run) -> None:
    for nonce in ("00" * 32, NONCE[:-2], NONCE + "00"):
        assert_refused(run(*files.arguments("ak.pem", "--nonce", nonce, "--json")), "nonce_mismatch")


def test_no_bit_of_the_message_can_be_changed(files: QuoteFiles, run: Run) -> None:
    message = (files.folder / "quote").read_bytes()

    for position in range(0, len(message), 7):
        altered = bytearray(message)
        altered[position] ^= 1 << position % 8
        (files.folder / "quote").write_bytes(altered)
        assert_refused(run(*files.all, "--json"), "bad_signature")


@pytest.mark.parametrize("form", ["tss", "plain"])
def test_the_signature_of_another_message_is_refused(form: str, quoter: Quoter, run: Run) -> None:
    quoter.quote("sha256:0,4,7", "-f", form)
    good = (quoter.folder / "signature").read_bytes()
    quoter.quote("sha256:1", "-f", form)
    (quoter.folder / "signature").write_bytes(good)

    assert_refused(run(*quoter.all, "--json"), "bad_signature")


def test_an_endorsement_key_is_no_attestation_key(files: QuoteFiles, run: Run) -> None:
    ended = run(*files.arguments("ek.pub", "--json"))

    assert_refused(ended, "key_attributes")
    assert "ek.pub" in ended.document["detail"]


@pytest.mark.parametrize("name", ["ak.pem", "quote", "signature", "pcrs"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"nonsense", b"-----BEGIN PUBLIC KEY-----", b"\xff" * 70_000])
def test_garbage_in_any_file_is_refused_and_nothing_worse(
    name: str, content: bytes, files: QuoteFiles, run: Run
) -> None:
    (files.folder / name).write_bytes(content)

    ended = run(*files.arguments("ak.pem", "--nonce", NONCE, "--pcrs", files.folder / "pcrs", "--json"))

    assert ended.code == 1
    assert ended.document["error"]


def test_a_missing_file_is_no_refusal(files: QuoteFiles, run: Run) -> None:
    (files.folder / "signature").unlink()

    ended = run(*files.all)

    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"tccp: error: file_unreadable: {files.folder}/signature: No such file or directory\n"


@pytest.mark.parametrize("nonce", ["xyz", "0", "0x0g"])
def test_a_nonce_that_is_no_hexadecimal_is_a_wrong_command_line(nonce: str, run: Run) -> None:
    ended = run("quote", "--ak", "a", "--message", "m", "--signature", "s", "--nonce", nonce)

    assert ended.code == 2
    assert "--nonce" in ended.err


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry["name"])
def test_recorded_quotes_have_their_verdicts(entry: dict[str, Any], run: Run) -> None:
    folder = VECTORS / entry["name"]
    nonce = ("--nonce", entry["nonce"]) if entry["nonce"] else ()
    pcrs = ("--pcrs", folder / "pcrs.bin") if (folder / "pcrs.bin").exists() else ()
    document = run(
        "quote",
        *("--ak", folder / f"ak.{entry['ak']}", "--message", folder / "attest.bin"),
        *("--signature", folder / "signature.bin", *nonce, *pcrs, "--json"),
    ).document

    if entry["verdict"] == "bad_signature":
        assert (document["verdict"], document["error"]) == ("refused", "bad_signature")
        return
    assert document["verdict"] == "accepted"
    # What is only shown is never said to be good enough for a coordinator.
    good_enough = "a coordinator that had asked for just this would take it" in document["checked"]
    assert good_enough == (entry["verdict"] == "accepted")


@pytest.mark.parametrize("name", ["windows-sha1-signature"])
def test_a_sha1_signature_is_refused(name: str, run: Run) -> None:
    folder = VECTORS / name
    (ak,) = folder.glob("ak.*")
    ended = run(
        "quote", "--ak", ak, "--message", folder / "attest.bin", "--signature", folder / "signature.bin", "--json"
    )

    assert ended.code == 1
    assert ended.document["error"] in {"unsupported", "bad_signature"}
