"""tpm2-tools, an implementation that is not ours, as the judge of what our client reads and makes."""

import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tccp.core.tpm_public import tpm_public_parse
from tests.support.soft_tpm import SoftTpm

_CREDENTIAL_MAGIC = bytes.fromhex("badcc0de00000001")


class Tpm2Tools:
    """Runs tpm2-tools on a software TPM that no other client is connected to, in a folder for their files."""

    def __init__(self, soft_tpm: SoftTpm, directory: Path, *, tcti: str = "") -> None:
        self._tcti = tcti or soft_tpm.tcti
        self.directory = directory

    def run(self, tool: str, *arguments: str) -> str:
        """What ``tpm2_<tool>`` prints; RuntimeError with its complaint when it fails."""
        finished = subprocess.run(
            [f"tpm2_{tool}", *arguments],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "TPM2TOOLS_TCTI": self._tcti},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if finished.returncode:
            raise RuntimeError(f"tpm2_{tool}: {finished.stderr}")
        return finished.stdout

    def write(self, name: str, content: bytes) -> str:
        """Put *content* into a file of the folder; returns its name."""
        (self.directory / name).write_bytes(content)
        return name

    def read(self, name: str) -> bytes:
        """The content of a file of the folder."""
        return (self.directory / name).read_bytes()

    def write_public_pem(self, name: str, public: bytes) -> str:
        """Put the key of a TPMT_PUBLIC into a file as tpm2-tools read it."""
        return self.write(name, _pem(tpm_public_parse(public).spki))

    def make_credential(self, ek_public: bytes, ak_name: bytes, secret: bytes) -> tuple[bytes, bytes]:
        """The contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, made by tpm2_makecredential without a TPM."""
        self.write("ek.pub", len(ek_public).to_bytes(2, "big") + ek_public)
        self.write("secret", secret)
        self.run(
            "makecredential", "-T", "none", "-e", "ek.pub", "-s", "secret", "-n", ak_name.hex(), "-o", "credential"
        )
        blob = self.read("credential")
        assert blob[:8] == _CREDENTIAL_MAGIC
        id_object_bytes = int.from_bytes(blob[8:10], "big")
        rest = blob[10 + id_object_bytes :]
        assert int.from_bytes(rest[:2], "big") == len(rest) - 2
        return blob[10 : 10 + id_object_bytes], rest[2:]


class Tpm2KeyTools(Tpm2Tools):
    """Keys that live in files of the folder between two tools: nothing stays loaded in the TPM."""

    def run(self, tool: str, *arguments: str) -> str:
        """As `Tpm2Tools.run`, and gives the TPM's slots back."""
        said = super().run(tool, *arguments)
        if tool != "flushcontext":
            super().run("flushcontext", "-t")
        return said

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
        """TPM2_ActivateCredential with ``ek.ctx`` and *key*; RuntimeError when the TPM refuses."""
        blob = b"".join(len(part).to_bytes(2, "big") + part for part in (id_object, encrypted_secret))
        self.write("credential", _CREDENTIAL_MAGIC + blob)
        self.run("startauthsession", "--policy-session", "-S", "session")
        try:
            self.run("policysecret", "-S", "session", "-c", "e")
            activate = ("-c", key, "-C", "ek.ctx", "-i", "credential", "-o", "secret", "-P", "session:session")
            self.run("activatecredential", *activate)
        finally:
            self.run("flushcontext", "session")
        return self.read("secret")


def _pem(spki: bytes) -> bytes:
    return load_der_public_key(spki).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
