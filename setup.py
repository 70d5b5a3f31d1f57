"""Everything else stands in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    # The C core keeps to the stable ABI: one wheel for Python 3.11 and all later ones.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
