"""From a description to arguments: nothing of a tenant becomes an option."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.model import SecretBytes
from tccp.node.vm.description import VmDescription, VmImages, VmSecrets
from tccp.node.vm.machine import Wiring, qemu_arguments

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200)


def arguments(description: VmDescription, **wires: object) -> list[str]:
    wiring = Wiring(
        **{"qmp": 3, "console": 4, "vtpm": 5, "kernel": 6, "initrd": 7, "disks": [8], "secrets": {"s": 9}, **wires}
    )  # type: ignore[arg-type]
    return qemu_arguments(
        description, wiring, accelerator="tcg", data_folders=["/usr/share/qemu"], ovmf=Path("/o,vmf"), lock_memory=True
    )


def description(**changes: object) -> VmDescription:
    fields = {"vm_id": bytes(16), "vcpus": 1, "memory_mib": 128, "firmware": "direct", "cmdline": "x", **changes}
    return VmDescription(**fields)  # type: ignore[arg-type]


@given(PRINTABLE)
def test_a_command_line_is_one_argument_as_it_is_and_changes_no_other(cmdline: str) -> None:
    usual, hostile = arguments(description(cmdline="x")), arguments(description(cmdline=cmdline))

    place = usual.index("-append") + 1
    assert hostile[place] == cmdline
    assert hostile[:place] + hostile[place + 1 :] == usual[:place] + usual[place + 1 :]


def test_there_is_no_device_that_nobody_asked_for() -> None:
    made = arguments(description(), disks=[], secrets={}, kernel=None, initrd=None)

    assert "-nodefaults" in made
    assert "-no-user-config" in made
    devices = [json.loads(value)["driver"] for option, value in itertools.pairwise(made) if option == "-device"]
    assert devices == ["tpm-crb", "virtio-rng-pci"]
    assert "-netdev" not in made
    assert "-kernel" not in made


@pytest.mark.parametrize("firmware", ["direct", "uefi"])
def test_a_guests_memory_is_merged_with_no_other_and_in_no_core_file(firmware: str) -> None:
    made = arguments(description(firmware=firmware))

    machine = dict(word.partition("=")[::2] for word in made[made.index("-M") + 1].split(","))
    assert machine["mem-merge"] == "off"
    assert machine["dump-guest-core"] == "off"


def test_a_path_of_the_operator_is_no_option_either() -> None:
    made = arguments(description(firmware="uefi"))

    blockdevs = [json.loads(value) for option, value in itertools.pairwise(made) if option == "-blockdev"]
    assert blockdevs[0]["filename"] == "/o,vmf"
    assert blockdevs[0]["read-only"] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"vm_id": bytes(15)},
        {"vcpus": 0},
        {"vcpus": 65},
        {"memory_mib": 63},
        {"memory_mib": (1 << 20) + 1},
        {"firmware": "bios"},
        {"network": "user"},
        {"cmdline": "two\nlines"},
        {"cmdline": "n\0l"},
        {"cmdline": "ümlaut"},
        {"cmdline": "x" * 2048},
    ],
)
def test_what_no_vm_can_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        description(**changes)


@pytest.mark.parametrize("name", ["", "a,b", "A", "../x", "x" * 41, "a=b", "-a", "a\0"])
def test_a_secret_has_a_name_that_means_nothing_to_qemu(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        VmSecrets(SecretBytes(bytes(32)), {name: SecretBytes(b"x")})


@pytest.mark.parametrize(("key", "secret"), [(31, 1), (32, 0), (32, (64 << 10) + 1)])
def test_secrets_have_a_size(key: int, secret: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        VmSecrets(SecretBytes(bytes(key)), {"s": SecretBytes(bytes(secret))})


def test_a_vm_boots_from_something() -> None:
    with pytest.raises(ValueError, match="needs"):
        VmImages()
