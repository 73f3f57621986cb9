"""The process that holds the embedded model: llama.cpp's own server, and nothing of monGARS.

Run by its path. Reads one line of JSON from stdin (see `embedded.py`, `_orders`), prints one line:
`{"url": …}` once it listens, else `{"error": kind, "detail": …}`. Ends when told to (SIGTERM) or
when stdin ends, so that it never outlives its parent.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1
_ENDINGS = {signal.SIGTERM, signal.SIGINT}


def main() -> int:
    """Serve until told to end."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when libgomp loads
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)  # before there are threads
    orders = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        return _tell(error="import", detail=str(error))
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, orders))
    except RuntimeError as error:
        return _tell(error="load", detail=str(error))
    _tell(url=server.listening_address)
    signal.sigwait(_ENDINGS)
    del server
    return 0


def _parameters(xllamacpp: Any, orders: dict[str, Any]) -> Any:
    p = xllamacpp.CommonParams()
    p.model.path = orders["model"]
    p.model_alias = {orders["alias"]}
    p.n_ctx = orders["context_tokens"] * orders["seats"]
    p.n_parallel = orders["seats"]
    # Reading a prompt can be broken off only between two batches: with 64 a slot is free after
    # half a second, with 256 after two; no larger one read faster (bench/llm_slots.py).
    p.n_batch = p.n_ubatch = 64
    p.cpuparams.n_threads = orders["threads"]
    p.cpuparams_batch.n_threads = orders["batch_threads"]
    p.cpuparams.poll = p.cpuparams_batch.poll = 0
    p.cache_ram_mib = orders["cache_mib"]
    p.hostnames = [orders["host"]]
    p.port = orders["port"]
    p.api_keys = [orders["key"]]
    p.ui = False
    p.cors_origins = ""
    p.verbosity = 0
    return p


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(**told: str) -> int:
    print(json.dumps(told), flush=True)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
