"""Witnesses in this very process: the daemon's own `serve` on a loopback port, with a memory on a disk."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio

from tccp.transparency.add_checkpoint import AddCheckpoint
from tccp.transparency.note import NoteKey
from tccp.transport.http import HttpResponse
from tccp.transport.public_log import open_public_log
from tccp.witness.daemon import serve
from tccp.witness.feeder import Feeder, post
from tccp.witness.keys import create_witness, load_signer
from tests.support.live_coordinator import HOST


class LiveWitness:
    """A running witness; made by `live_witness`."""

    def __init__(self, key: NoteKey, listening: str, state: Path) -> None:
        self.key, self.state = key, state
        self.url = f"http://{listening}"

    async def ask(self, body: bytes, *, path: str = "/add-checkpoint") -> HttpResponse:
        """POST anything."""
        return await post(urlsplit(self.url), path, body)

    async def add(self, old: int, proof: Sequence[bytes], note: bytes) -> HttpResponse:
        """A request as a feeder makes it."""
        return await self.ask(AddCheckpoint(old, tuple(proof), note).encode())

    async def cosign(self, port: int) -> None:
        """Feed it once with the newest head of the coordinator whose port for tenants this is."""
        feeder = Feeder((HOST, port), urlsplit(self.url), self.key)
        public = await open_public_log(HOST, port)
        try:
            await feeder.feed(public)
        finally:
            public.close()


@asynccontextmanager
async def live_witness(
    folder: Path, logs: Sequence[NoteKey], *, name: str = "witness.example/w1"
) -> AsyncIterator[LiveWitness]:
    """Run a witness of *logs* on the state in *folder*, made when there is none yet."""
    state = folder / "state"
    if not state.exists():
        create_witness(state, name)
    config = folder / "witness.toml"
    tables = "".join(f'[[logs]]\nkey = "{key}"\n' for key in logs)
    config.write_text(
        f'name = "{name}"\nstate_directory = "{state}"\n[listen]\nport = 0\n[log]\nlevel = "error"\n{tables}'
    )
    async with trio.open_nursery() as nursery:
        listening = await nursery.start(serve, config)
        yield LiveWitness(load_signer(state, name).key, listening, state)
        nursery.cancel_scope.cancel()
