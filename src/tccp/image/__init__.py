"""Sealed images: a VM's disk as its tenant hands it out, encrypted and signed (docs/IMAGE_FORMAT.md).

``sealed`` seals, opens and verifies; ``recipients`` wraps image keys to people and nodes, ``rewrap`` changes to whom;
``keys`` are the key files. The data path is the C core's (csrc/image_*.c).
"""
