"""Run by `python3 -c` in a sandbox: writes the runner, which comes on its third input, and becomes it.

A shell takes twice as long for that. Between single quotes there, so it has none.
"""

import binascii
import os
import sys

home = os.environ.get("RUNNER_HOME", "/home/user/.sandkeeper")
os.makedirs(home, 0o700, exist_ok=True)
path = home + "/runner.pyz"
with open(path + str(os.getpid()), "wb") as file, open(3, "rb") as content:
    file.write(binascii.a2b_base64(content.read()))
os.replace(file.name, path)
sys.path.append(path)

from sandkeeper.runner.__main__ import main  # noqa: E402 - it is there by now

main()
