"""Runs inside a service's container: kill -9 the service, as a crash would. (Process 1 is the init that reaps it.)"""

import os
import signal
from pathlib import Path

for entry in Path("/proc").iterdir():
    if entry.name.isdigit() and int(entry.name) not in (1, os.getpid()):
        words = (entry / "cmdline").read_bytes().split(b"\0")
        if b"serve" in words:
            os.kill(int(entry.name), signal.SIGKILL)
            print(entry.name)
            break
else:
    raise SystemExit("no service runs here")
