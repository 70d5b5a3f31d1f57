"""cffi API mode: the marked parts of what ``tccp.h`` includes become the module ``tccp._core``.

Environment:
    TCCP_WERROR=1     warnings are errors (CI)
    TCCP_NO_LANES=1   build without code for AVX-512 IFMA, and without Intel crypto_mb even where it is installed
"""

import os
import re
import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import libsodium  # noqa: E402 - beside this file, which setuptools executes by path

# Debian hands down its own -O2; the hot loops are in libraries, so it is enough for ours.
COMPILE = [
    "-std=c11", "-O2", "-g1", "-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Wno-unused-parameter",
    "-fvisibility=hidden", "-fstack-protector-strong", "-fstack-clash-protection", "-fcf-protection=full",
    "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fno-strict-aliasing",
]  # fmt: skip
# The same sources make the same bytes, wherever they and what they include lie.
PLACES = {Path.cwd(): ".", Path(sys.prefix): "environment", Path(sys.base_prefix): "python"}
LINK = ["-Wl,-z,relro,-z,now,-z,noexecstack", "-Wl,--exclude-libs,ALL", "-Wl,--as-needed"]


def interface() -> str:
    """What stands between the markers of the parts of tccp.h, in its order, for cffi's parser."""
    parts = re.findall(r'^#include "(tccp_\w+\.h)"$', (HERE / "tccp.h").read_text(), re.MULTILINE)
    marked = [(HERE / part).read_text().split("/* [cffi */")[1].split("/* cffi] */")[0] for part in parts]
    return "".join(marked).replace("TCCP_MUST_USE", "")


def sources() -> list[str]:
    """Every C file of the core; tests and fuzzers live in folders of their own."""
    return [str(path.relative_to(Path.cwd())) for path in sorted(HERE.resolve().glob("*.c"))]


def lanes() -> dict[str, list[object]]:
    """Intel crypto_mb, when `ipp-crypto-static` and `ipp-crypto-include` are installed in this environment."""
    archive = Path(sys.prefix) / "lib" / "libcrypto_mb.a"
    include = Path(sys.prefix) / "include" / "aggregator"
    if os.environ.get("TCCP_NO_LANES"):
        return {"include_dirs": [], "extra_objects": [], "define_macros": [("TCCP_NO_LANES", "1")]}
    if not archive.exists() or not include.exists():
        return {"include_dirs": [], "extra_objects": [], "define_macros": []}
    return {
        "include_dirs": [str(include)],
        "extra_objects": [str(archive)],
        "define_macros": [("TCCP_HAVE_CRYPTO_MB", "1")],
    }


sodium, sodium_origin = libsodium.locate()
PLACES[libsodium.cached_prefix()] = "libsodium"
mb = lanes()
ffibuilder = FFI()
ffibuilder.cdef(interface())
ffibuilder.set_source(
    "tccp._core",
    # The generated glue is not ours to warn about; -Werror is for what follows in our own files.
    '#pragma GCC diagnostic ignored "-Wall"\n#pragma GCC diagnostic ignored "-Wextra"\n'
    '#pragma GCC diagnostic ignored "-Wshadow"\n#include "tccp.h"\n',
    sources=sources(),
    depends=[str(path) for path in HERE.glob("*.h")],
    include_dirs=[str(HERE), *sodium.get("include_dirs", []), *mb["include_dirs"]],
    # Archives of ours first, what they need after them.
    extra_objects=[*mb["extra_objects"], *sodium.get("extra_objects", [])],
    libraries=[*sodium.get("libraries", []), "crypto"],
    define_macros=mb["define_macros"],
    extra_compile_args=[
        *COMPILE,
        *(f"-ffile-prefix-map={place}={name}" for place, name in PLACES.items()),
        *(["-Werror"] if os.environ.get("TCCP_WERROR") else []),
    ],
    extra_link_args=LINK,
)
