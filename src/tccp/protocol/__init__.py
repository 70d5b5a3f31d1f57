"""What may be said, by whom and when. No I/O: bytes in, messages out; time and nonces come in as arguments."""
