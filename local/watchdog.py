"""Ends what a killed supervisor could not end itself: `watchdog.py FOLDER`, with a pipe as standard input.

It leads the process group to which every server of the stack belongs, and sleeps until its standard input
closes. That happens however the supervisor ends, SIGKILL included, and needs nothing that only Linux has.
"""

import os
import shutil
import signal
import sys
import time

GRACE_S = 3


def main(folder: str) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    os.killpg(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
