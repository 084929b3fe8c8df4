"""Command line of the agent: `python -P -m agent --run-dir DIR --home DIR`."""

import argparse
import asyncio
import random
import sys
from pathlib import Path

from . import slim  # noqa: F401 - before what it is about
from .server import Options, serve


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="agent", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, help="where agent.sock and relay.sock appear")
    parser.add_argument("--home", type=Path, required=True, help="home of the sandbox's user")
    parser.add_argument("--preload", default="", help="modules to import in the default kernel, comma-separated")
    parser.add_argument("--shared-network", action="store_true", help="use an address of one's own")
    parser.add_argument("--adopt", action="store_true", help="keep programs that detach themselves")
    parser.add_argument("--end-with-stdin", action="store_true", help="end as soon as stdin is closed")
    given = parser.parse_args()
    return Options(
        run_dir=given.run_dir,
        home=given.home,
        preload=tuple(name for name in given.preload.split(",") if name),
        loopback=_own_address() if given.shared_network else "127.0.0.1",
        adopts=given.adopt,
        end_with_stdin=given.end_with_stdin,
    )


def _own_address() -> str:
    """A loopback address that no other sandbox is likely to have."""
    return ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])  # noqa: S311 - it is no secret


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(_options())))
