"""Command line of the agent: `python -P -m agent --run-dir DIR --home DIR`."""

import argparse
import asyncio
import sys
from pathlib import Path

from .server import Options, serve


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="agent", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, help="where agent.sock and relay.sock appear")
    parser.add_argument("--home", type=Path, required=True, help="home of the sandbox's user")
    parser.add_argument("--preload", default="", help="modules to import in the default kernel, comma-separated")
    parser.add_argument("--shared-network", action="store_true", help="leave the fixed TCP ports alone")
    parser.add_argument("--end-with-stdin", action="store_true", help="end as soon as stdin is closed")
    given = parser.parse_args()
    return Options(
        run_dir=given.run_dir,
        home=given.home,
        preload=tuple(name for name in given.preload.split(",") if name),
        shared_network=given.shared_network,
        end_with_stdin=given.end_with_stdin,
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(_options())))
