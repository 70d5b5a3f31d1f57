"""tpm2-tools against a software TPM: the independent client that checks what ours and the C core say."""

import os
import subprocess
from pathlib import Path

from tests.support.soft_tpm import SoftTpm

_CREDENTIAL_MAGIC = bytes.fromhex("badcc0de 00000001")


class Tpm2Tools:
    """Runs the tools in a folder of one's own, so that files are named plainly.

    Args:
        soft_tpm: Running; no other client may be connected while a tool runs.
        directory: Where the files of the tools are.
    """

    def __init__(self, soft_tpm: SoftTpm, directory: Path) -> None:
        self.directory = directory
        self._environment = os.environ | {"TPM2TOOLS_TCTI": soft_tpm.tcti}

    def run(self, tool: str, *arguments: str) -> None:
        """Run ``tpm2_TOOL``; CalledProcessError when it fails."""
        subprocess.run(
            [f"tpm2_{tool}", "-Q", *arguments],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        if tool != "flushcontext":
            subprocess.run(
                ["tpm2_flushcontext", "-t"], env=self._environment, capture_output=True, timeout=60, check=True
            )

    def read(self, name: str) -> bytes:
        """The file *name* that a tool wrote."""
        return (self.directory / name).read_bytes()

    def create_ek(self, algorithm: str) -> bytes:
        """Make ``ek.ctx``; return TPM2B_PUBLIC."""
        self.run("createek", "-G", algorithm, "-c", "ek.ctx", "-f", "tss", "-u", "ek.pub")
        return self.read("ek.pub")

    def create_ak(self, algorithm: str, scheme: str) -> bytes:
        """Make ``ak.ctx`` below ``ek.ctx``; return TPM2B_PUBLIC."""
        arguments = ("-G", algorithm, "-g", "sha256", "-s", scheme, "-f", "tss", "-u", "ak.pub", "-n", "ak.name")
        self.run("createak", "-C", "ek.ctx", "-c", "ak.ctx", *arguments)
        return self.read("ak.pub")

    def activate(self, id_object: bytes, encrypted_secret: bytes, *, key: str = "ak.ctx") -> bytes:
        """TPM2_ActivateCredential with ``ek.ctx`` and *key*; CalledProcessError when the TPM refuses."""
        blob = b"".join(len(part).to_bytes(2, "big") + part for part in (id_object, encrypted_secret))
        (self.directory / "credential").write_bytes(_CREDENTIAL_MAGIC + blob)
        self.run("startauthsession", "--policy-session", "-S", "session")
        try:
            self.run("policysecret", "-S", "session", "-c", "e")
            activate = ("-c", key, "-C", "ek.ctx", "-i", "credential", "-o", "secret", "-P", "session:session")
            self.run("activatecredential", *activate)
        finally:
            self.run("flushcontext", "session")
        return self.read("secret")

    def make_credential(self, secret: bytes, name: bytes) -> tuple[bytes, bytes]:
        """The tool's own TPM2_MakeCredential for ``ek.pub``: contents of TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET."""
        (self.directory / "plain").write_bytes(secret)
        make = ("-u", "ek.pub", "-s", "plain", "-n", name.hex(), "-o", "made")
        self.run("makecredential", "-T", "none", *make)
        made = self.read("made")
        assert made.startswith(_CREDENTIAL_MAGIC)
        size = int.from_bytes(made[8:10], "big")
        return made[10 : 10 + size], made[12 + size :]
