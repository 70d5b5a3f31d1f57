"""Tests of tccp.tpm against real software TPMs."""
