"""Who performs a turn: the name of a process that another one can judge."""

import os
import secrets
import socket

import psutil


def own_name() -> str:
    """This process: host, pid, when it began, and a part of chance."""
    began = int(psutil.Process().create_time() * 100)
    return f"{socket.gethostname()}/{os.getpid()}/{began}/{secrets.token_hex(4)}"


def is_gone(name: str) -> bool:
    """Whether a process of this host has surely ended; a process of another host is never judged."""
    try:
        host, pid, began, _ = name.rsplit("/", 3)
        if host != socket.gethostname():
            return False
        return int(psutil.Process(int(pid)).create_time() * 100) != int(began)
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False
