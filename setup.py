"""Everything else stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["csrc/build.py:ffibuilder"])
