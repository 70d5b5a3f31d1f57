"""Tests of live disks."""
