"""Tests of tccp.attestation: every rule is attacked through the outermost function."""
