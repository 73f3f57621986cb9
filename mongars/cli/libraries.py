"""The system libraries that Python wheels do not carry, and the command that adds them.

Standard library only: `make install` runs this file before anything is installed.
"""

import ctypes
import sys
from pathlib import Path

NEEDED = {
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
}
"""Library to Debian package; the embedded language model and the encoder are linked to them."""


def missing(needed: dict[str, str] = NEEDED) -> list[str]:
    """The names of libraries that this machine lacks; none where wheels carry them (macOS)."""
    if not sys.platform.startswith("linux"):
        return []
    return [library for library in needed if not _loads(library)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def remedy(libraries: list[str]) -> str:
    """The exact command for this machine's package manager."""
    if Path("/etc/alpine-release").exists():
        return "apk add libgomp libstdc++"
    if Path("/etc/redhat-release").exists():
        return "sudo dnf install libgomp libstdc++"
    return f"sudo apt-get install {' '.join(NEEDED[library] for library in libraries)}"


def main() -> int:
    """Say what is missing. Returns 3 (not configured) when something is."""
    absent = missing()
    if absent:
        print(f"The system library {' and '.join(absent)} is missing.", file=sys.stderr)
        print(f"Add it with: {remedy(absent)}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
