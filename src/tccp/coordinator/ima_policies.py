"""The compiled IMA policies of this coordinator: each file mapped once, found by the hash that a boot policy names."""

import hashlib
from pathlib import Path

import structlog
import trio

from tccp.attestation.boot_policy import AnyPolicy, BootPolicy
from tccp.attestation.ima import ImaPolicy
from tccp.config import ImaConfig
from tccp.errors import ConfigError, PolicyError, TccpError
from tccp.mapped import map_file

POLICY_BYTES_MAX = 1 << 30
FILES_MAX = 1024
SUFFIX = ".ima"
_HINT = "make it with `tccp policy compile`, put it into the folder of [ima] policies, and reload"

log = structlog.get_logger()


class ImaPolicies:
    """Those that are mapped; all nodes that are judged by one share it.

    Args:
        config: Where the compiled files are (``*.ima``), whatever they are called; may be replaced.
    """

    def __init__(self, config: ImaConfig) -> None:
        self.config = config
        self._mapped: dict[bytes, ImaPolicy] = {}
        self._known: dict[Path, tuple[int, int, bytes]] = {}  # size, time, hash: of what was hashed already

    def get(self, sha256: bytes) -> ImaPolicy:
        """The policy whose file has this hash.

        Raises:
            PolicyError: ``no_ima_policy``: it is not mapped, so nobody is admitted by it.
        """
        try:
            return self._mapped[sha256]
        except KeyError:
            raise PolicyError("no_ima_policy", f"no compiled IMA policy is {sha256.hex()}", hint=_HINT) from None

    async def prepare(self, policy: AnyPolicy) -> None:
        """Map what *policy* names, if it is not; a policy that names none needs nothing.

        Raises:
            ConfigError: ``no_ima_policy``: no file in the folder has that hash.
            ImaError, HostError: The file is damaged, or cannot be read.
        """
        wanted = policy.ima_sha256 if isinstance(policy, BootPolicy) else None
        if wanted is None or wanted in self._mapped:
            return
        found = await trio.to_thread.run_sync(self._find, wanted)
        if found is None:
            where = f"is not in {self.config.policies}" if self.config.policies else "is nowhere: set [ima] policies"
            raise ConfigError("no_ima_policy", f"{policy} needs {wanted.hex()}, which {where}", hint=_HINT)
        self._mapped[wanted] = found
        log.info("ima_policy_mapped", sha256=wanted.hex(), digests=len(found))

    async def prepare_all(self, policies: list[AnyPolicy]) -> None:
        """Map what policies in force name. What cannot be is reported: their nodes are refused until it can."""
        for policy in policies:
            try:
                await self.prepare(policy)
            except TccpError as problem:
                log.error("ima_policy_missing", policy=str(policy), reason=problem.reason, detail=problem.detail)

    def _find(self, wanted: bytes) -> ImaPolicy | None:
        folder = self.config.policies
        for path in sorted(Path(folder).glob(f"*{SUFFIX}"))[:FILES_MAX] if folder else ():
            if self._sha256(path) == wanted:
                return ImaPolicy(map_file(path, bytes_max=POLICY_BYTES_MAX), wanted)
        return None

    def _sha256(self, path: Path) -> bytes | None:
        try:
            seen = path.stat()
            known = self._known.get(path)
            if known is None or known[:2] != (seen.st_size, seen.st_mtime_ns):
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
                known = self._known[path] = (seen.st_size, seen.st_mtime_ns, digest)
        except OSError as problem:
            log.warning("ima_policy_unreadable", path=str(path), detail=str(problem.strerror))
            return None
        return known[2]
