"""What a tenant runs: verify a coordinator before saying anything, pin it, and look again."""
