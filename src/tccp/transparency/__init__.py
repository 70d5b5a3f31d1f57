"""The transparency log: an append-only Merkle tree in tiles, signed checkpoints, and proofs that anybody can verify.

    entries --> LogWriter --> bundles, tiles, checkpoint      (a directory; any web server can serve it)
                                  |
                  prove_inclusion, prove_consistency          (by whoever holds tiles, ours or fetched ones)
                                  |
                 verify_inclusion, verify_consistency         (by whoever holds a verified checkpoint)

Formats: C2SP tlog-tiles, tlog-checkpoint, signed-note and tlog-cosignature; docs/LOG.md. There is no network and no
clock here; `tile_directory` alone touches files.
"""
