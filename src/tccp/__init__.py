"""Trusted Cloud Computing Platform: virtual machines run only on hosts that proved what they are."""

__version__ = "0.1.0"
