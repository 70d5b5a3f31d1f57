"""The process that serves the live disk of one VM: one disk, one key, one socket (docs/DISK_FORMAT.md)."""
