"""A node: a host that proves with its TPM what it runs, and holds a lease for as long as it can."""
