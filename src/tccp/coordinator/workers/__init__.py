"""Processes that take connections of nodes in and do TLS for a coordinator that has more than one core."""
