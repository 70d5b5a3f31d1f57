"""``tccp image`` and ``tccp key`` as people and scripts use them."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.image.conftest import Run
from tests.cli.running import TCCP, tccp_on_a_terminal


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        capture_output=True,
        check=False,
        env={**os.environ, "PATH": f"{Path(TCCP).parent}:{os.environ['PATH']}"},
    )


def test_what_was_sealed_opens_again(run: Run, work: Path, sealed: Path) -> None:
    assert run("image", "open", sealed, "out.raw", "--key", "me.key", "--tenant", "tenant.pub").code == 0

    assert (work / "out.raw").read_bytes() == (work / "disk.raw").read_bytes()
    assert stat.S_IMODE((work / "out.raw").stat().st_mode) == 0o600
    assert (work / "out.raw").stat().st_blocks * 512 < 5 << 20, "holes stay holes"


def test_secret_keys_are_their_owners_alone_and_never_overwritten(run: Run, work: Path) -> None:
    assert stat.S_IMODE((work / "me.key").stat().st_mode) == 0o600
    before = (work / "me.key").read_bytes()

    ended = run("key", "generate", "me.key", "--json")

    assert ended.code == 4
    assert ended.document["error"] == "key_exists"
    assert (work / "me.key").read_bytes() == before


def test_a_secret_key_that_others_may_read_is_refused(run: Run, work: Path, sealed: Path) -> None:
    (work / "me.key").chmod(0o640)

    ended = run("image", "open", sealed, "out.raw", "--key", "me.key", "--json")

    assert ended.code == 4
    assert ended.document["error"] == "key_exposed"


@pytest.mark.parametrize(
    ("option", "key", "reason"),
    [
        ("--to", "me.key", "key_of_another_kind"),
        ("--to", "tenant.pub", "key_of_another_kind"),
        ("--to", "disk.raw", "too_large"),
        ("--sign", "me.key", "key_of_another_kind"),
        ("--sign", "nothing.key", "file_unreadable"),
    ],
)
def test_no_key_is_taken_for_another(run: Run, work: Path, option: str, key: str, reason: str) -> None:
    ended = run("image", "seal", "disk.raw", "x", "--to", "me.pub", option, key, "--json")

    assert ended.document["error"] == reason
    assert not (work / "x").exists()


def test_pipes_at_both_ends(work: Path) -> None:
    done = shell(
        "cat disk.raw | tccp image seal - - --to me.pub --sign fd:3 3< tenant.key"
        " | tccp image open - - --key fd:3 --tenant tenant.pub 3< me.key | cmp - disk.raw",
        work,
    )

    assert done.returncode == 0, done.stderr


def test_output_is_appended_where_the_shell_says_so(work: Path, sealed: Path) -> None:
    done = shell("echo before > out; tccp image open disk.sealed - --key me.key >> out; echo after >> out", work)

    assert done.returncode == 0, done.stderr
    assert (work / "out").read_bytes() == b"before\n" + (work / "disk.raw").read_bytes() + b"after\n"


@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_what_qemu_reads_is_sealed_as_the_disk_that_it_is(run: Run, work: Path, image_format: str) -> None:
    subprocess.run(["qemu-img", "convert", "-O", image_format, "disk.raw", "disk.x"], cwd=work, check=True)
    explicit = [] if image_format == "qcow2" else ["--format", image_format]

    assert run("image", "seal", "disk.x", "x.sealed", "--to", "me.pub", *explicit).code == 0
    assert run("image", "open", "x.sealed", "out.raw", "--key", "me.key").code == 0

    opened, disk = (work / "out.raw").read_bytes(), (work / "disk.raw").read_bytes()
    assert opened.rstrip(b"\0") == disk
    assert len(opened) - len(disk) < 16 << 20, "formats round the size up to sectors or cylinders"


def test_a_qcow2_image_may_not_draw_on_a_file_that_nobody_named(run: Run, work: Path) -> None:
    (work / "secret").write_bytes(b"a file of this host".ljust(4096))
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "secret", "-F", "raw", "trap.qcow2"]
    subprocess.run(create, cwd=work, check=True)

    ended = run("image", "seal", "trap.qcow2", "x", "--to", "me.pub", "--json")

    assert ended.code == 4
    assert ended.document["error"] == "backing_file"
    # The control: asked for, the file is drawn in.
    assert run("image", "seal", "trap.qcow2", "x", "--to", "me.pub", "--format", "qcow2").code == 0
    assert run("image", "open", "x", "out", "--key", "me.key").code == 0
    assert (work / "out").read_bytes().startswith(b"a file of this host")


def test_inspect_says_what_the_header_says(run: Run, sealed: Path) -> None:
    document = run("image", "inspect", sealed, "--json").document

    assert document["size"] == (20 << 20) + 15
    assert document["suite"] in {"AEGIS-256", "XChaCha20-Poly1305"}
    assert document["signature"] == "holds"
    assert len(document["recipients"]) == 1
    assert document["root"] in run("image", "inspect", sealed).out


def test_verify_says_what_it_did_not_check(run: Run, sealed: Path) -> None:
    without = run("image", "verify", sealed, "--json").document
    whole = run("image", "verify", sealed, "--key", "me.key", "--tenant", "tenant.pub", "--json").document

    assert without["verdict"] == whole["verdict"] == "accepted"
    assert any("--key" in line for line in without["not_proved"])
    assert any("--tenant" in line for line in without["not_proved"])
    assert whole["not_proved"] == []


def test_the_root_that_a_ticket_names_can_be_demanded(run: Run, sealed: Path) -> None:
    root = run("image", "inspect", sealed, "--json").document["root"]

    assert run("image", "verify", sealed, "--root", root).code == 0
    ended = run("image", "open", sealed, "out", "--key", "me.key", "--root", "00" * 32, "--json")
    assert ended.code == 1
    assert ended.document["error"] == "wrong_root"


def test_recipients_come_and_go_and_the_image_stays(run: Run, work: Path, sealed: Path) -> None:
    before, root = sealed.read_bytes(), run("image", "inspect", sealed, "--json").document["root"]
    run("key", "generate", "third.key")

    assert run("image", "rewrap", sealed, "--key", "me.key", "--add", "other.pub").code == 0
    assert run("image", "verify", sealed, "--key", "me.key", "--tenant", "tenant.pub").code == 0
    assert run("image", "rewrap", sealed, "--key", "other.key", "--remove", "me.pub").code == 0
    assert run("image", "rewrap", sealed, "--key", "other.key", "--rotate", "other.pub", "third.pub").code == 0

    assert sealed.read_bytes()[65536:] == before[65536:]
    assert run("image", "inspect", sealed, "--json").document["root"] == root
    for key, code in (("me.key", 1), ("other.key", 1), ("third.key", 0)):
        assert run("image", "verify", sealed, "--key", key, "--tenant", "tenant.pub").code == code
    assert sorted(path.name for path in work.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("--remove", "me.pub"), "no_recipients"),
        (("--add", "me.pub"), "recipient_twice"),
        (("--remove", "other.pub"), "no_such_recipient"),
        (("--remove", "ffffffffffffffffffff"), "no_such_recipient"),
        ((), "usage"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(
    run: Run, sealed: Path, change: tuple[str, ...], reason: str
) -> None:
    before = sealed.read_bytes()

    ended = run("image", "rewrap", sealed, "--key", "me.key", *change, "--json")

    assert ended.document["error"] == reason
    assert sealed.read_bytes() == before


def test_a_person_sees_a_progress_bar_and_a_program_does_not(work: Path) -> None:
    arguments = ["image", "seal", work / "disk.raw", work / "x", "--to", work / "me.pub"]

    assert "\x1b[" not in tccp_on_a_terminal(*arguments).err
    script = " ".join(map(str, [TCCP, *arguments]))
    done = subprocess.run(
        ["script", "-qec", script, "/dev/null"],
        env={**os.environ, "TERM": "xterm-256color"},
        capture_output=True,
        check=True,
    )
    assert b"sealing" in done.stdout


def test_json_and_an_image_do_not_share_standard_output(run: Run, sealed: Path) -> None:
    assert run("image", "open", sealed, "-", "--key", "me.key", "--json").code == 2


def test_the_image_is_never_its_own_output(run: Run, work: Path) -> None:
    before = (work / "disk.raw").read_bytes()

    assert run("image", "seal", "disk.raw", "disk.raw", "--to", "me.pub").code == 2
    assert (work / "disk.raw").read_bytes() == before


def test_json_is_one_document(run: Run, work: Path) -> None:
    ended = run("image", "seal", "disk.raw", "x", "--to", "me.pub", "--json")

    assert json.loads(ended.out)["tenant"] is None
