"""TCTI strings, and what is said where there is no TPM."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import ConfigError, TpmError
from tccp.tpm import DeviceTcti, SwtpmTcti, open_tpm, parse_tcti
from tests.support.soft_tpm import SoftTpm
from tests.tpm.fake_tpm import answering, listening, response

NOBODY = 65534


@pytest.mark.parametrize(
    ("text", "tcti"),
    [
        ("device:/dev/tpmrm0", DeviceTcti(Path("/dev/tpmrm0"))),
        ("swtpm:path=/run/x.sock", SwtpmTcti(path=Path("/run/x.sock"))),
        ("swtpm:host=127.0.0.1,port=2321", SwtpmTcti(host="127.0.0.1", port=2321)),
    ],
)
def test_a_tcti_is_read_and_written_alike(text: str, tcti: DeviceTcti | SwtpmTcti) -> None:
    assert parse_tcti(text) == tcti
    assert str(tcti) == text


def test_only_the_resource_manager_cleans_up_behind_clients() -> None:
    assert DeviceTcti(Path("/dev/tpmrm0")).has_resource_manager
    assert not DeviceTcti(Path("/dev/tpm0")).has_resource_manager
    assert not SwtpmTcti(path=Path("/run/x.sock")).has_resource_manager


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/dev/tpmrm0",
        "tabrmd:",
        "device:",
        "device:dev/tpmrm0",
        "device:/dev/tpm\0rm0",
        "swtpm:",
        "swtpm:path",
        "swtpm:path=",
        "swtpm:path=relative",
        "swtpm:path=/" + "x" * 107,
        "swtpm:path=/a,path=/b",
        "swtpm:path=/a,port=1",
        "swtpm:path=/a,color=red",
        "swtpm:host=localhost",
        "swtpm:port=2321",
        "swtpm:host=,port=2321",
        "swtpm:host=localhost,port=0",
        "swtpm:host=localhost,port=65536",
        "swtpm:host=localhost,port=-1",
        "swtpm:host=localhost,port=٣",
        "swtpm:host=localhost,port=2321,",
    ],
)
def test_what_is_no_tcti_is_the_operators_to_mend(text: str) -> None:
    with pytest.raises(ConfigError, match="tcti_invalid") as caught:
        parse_tcti(text)

    assert "device:/dev/tpmrm0" in caught.value.hint


@given(st.text() | st.text().map("swtpm:".__add__) | st.text().map("device:/".__add__))
def test_any_text_is_a_tcti_or_a_config_error(text: str) -> None:
    try:
        tcti = parse_tcti(text)
    except ConfigError:
        return
    assert parse_tcti(str(tcti)) == tcti


async def refusal(tcti: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        async with open_tpm(tcti):
            pass
    return caught.value


async def test_a_device_that_does_not_exist_is_named(tmp_path: Path) -> None:
    error = await refusal(f"device:{tmp_path}/tpmrm0")

    assert error.reason == "tpm_missing"
    assert f"{tmp_path}/tpmrm0 does not exist" in str(error)
    assert "firmware" in error.hint


async def test_a_file_is_no_device_and_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for path in (tmp_path / "file", tmp_path):
        assert (await refusal(f"device:{path}")).reason == "tpm_missing"

    assert (tmp_path / "file").read_bytes() == b"precious"


async def test_a_pipe_is_no_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert (await refusal(f"device:{tmp_path}/pipe")).reason == "tpm_missing"


async def test_a_socket_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    error = await refusal(f"swtpm:path={tmp_path}/tpm")

    assert error.reason == "tpm_missing"
    assert "Is swtpm running" in error.hint


async def test_a_port_where_nobody_listens_is_missing() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        assert (await refusal(f"swtpm:host=127.0.0.1,port={port}")).reason == "tpm_missing"


async def test_a_socket_without_a_listener_is_missing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "tpm"))

    assert (await refusal(f"swtpm:path={tmp_path}/tpm")).reason == "tpm_missing"


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A file that nobody may open."""
    path = tmp_path / "tpm0"
    path.touch(mode=0)
    return path


@pytest.fixture
def without_privileges() -> Iterator[None]:
    """Root may open everything: be nobody for the test."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(before)


async def test_a_device_that_we_may_not_open_names_the_group(locked: Path, without_privileges: None) -> None:
    error = await refusal(f"device:{locked}")

    assert error.reason == "tpm_permission"
    assert "tss" in error.hint


async def test_a_socket_that_we_may_not_use_says_so(soft_tpm: SoftTpm, without_privileges: None) -> None:
    error = await refusal(soft_tpm.tcti)

    assert error.reason == "tpm_permission"
    assert "group" in error.hint


@pytest.mark.parametrize("answer", [b"\0" * 4096, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_what_speaks_another_language_is_no_tpm(answer: bytes, tmp_path: Path) -> None:
    async with listening(tmp_path / "tpm", answering(answer)) as tcti:
        with pytest.raises(TpmError, match="tpm_malformed_response") as caught:
            async with open_tpm(tcti):
                pass

    assert "TCTI" in caught.value.hint


async def test_a_tpm_that_was_never_started_is_explained(tmp_path: Path) -> None:
    async with listening(tmp_path / "tpm", answering(response(code=0x100))) as tcti:
        with pytest.raises(TpmError, match="tpm_rc_initialize") as caught:
            async with open_tpm(tcti):
                pass

    assert "startup-clear" in caught.value.hint
