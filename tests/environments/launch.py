"""Become the command given as arguments, and die with the process that started it.

A test run that is ended by a signal runs no fixture's end; without this its servers would go on for ever.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if sys.platform == "linux":
    parent = int(sys.argv[1])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
os.execv(sys.argv[2], sys.argv[2:])
