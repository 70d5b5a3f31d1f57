"""Tests of the C core as it was built."""
