"""Making sure that a worker ends with the studio that started it, however that ended.

Three nets: the worker's stdin closes (every system); the kernel's parent-death signal (Linux), for the seconds in which
a library holds Python's global lock while it loads and no thread of ours can run; a job object (Windows).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Called in the worker: have Linux end this process when the thread that started it ends.

    The kernel could send SIGKILL, but then processes started by the worker would be left. So it sends SIGHUP, whose
    handler is libc's own `alarm`, called with the signal's number, 1: a second later SIGALRM ends the process, even
    where no line of Python can run. Within that second the thread that watches stdin takes the whole group along.

    Args:
        parent: process id of the studio, to notice if it is gone already.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    if parent and os.getppid() != parent:  # it went away before the line above
        os._exit(1)


def end_group(pid: int) -> None:
    """Kill a worker and everything it started. `pid` leads its own process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)  # on Windows this is TerminateProcess


def bind_to_this_process(process: subprocess.Popen[bytes]) -> Any:
    """On Windows, put a worker into a job object that ends with this process; elsewhere nothing.

    Returns:
        A handle to keep for as long as the worker may live, or None.
    """
    if sys.platform != "win32":
        return None
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = ctypes.c_void_p
    job = kernel.CreateJobObjectW(None, None)
    # JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which only LimitFlags at offset 16 is set: KILL_ON_JOB_CLOSE
    info = (ctypes.c_byte * (144 if sys.maxsize > 2**32 else 112))()
    ctypes.c_uint32.from_buffer(info, 16).value = 0x2000
    kernel.SetInformationJobObject(ctypes.c_void_p(job), 9, ctypes.byref(info), ctypes.sizeof(info))
    kernel.AssignProcessToJobObject(ctypes.c_void_p(job), ctypes.c_void_p(int(process._handle)))
    return job
