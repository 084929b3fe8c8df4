"""`python -m local run` serves the local stack until interrupted; `python -m local demo` shows it at work.

`run-deployed` serves the very template instead: deployed to the local AWS, with the functions behind its gateway.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from local.processes import StackError
from local.project import ROOT, shown
from local.settings import Settings, SettingsError
from local.stack import Stack

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHECK_EVERY_S = 0.25

READY = """\
Sandkeeper is ready, after {seconds:.1f} s. Ctrl-C stops it.

{page}  API        {api_url}  (its contract: {api_url}/openapi.json)
  API key    {api_key}
  sandboxes  {sandbox_url}  (E2B_API_URL and E2B_SANDBOX_URL for the E2B SDK)
  AWS        {aws_url}  (AWS_ENDPOINT_URL; table {table}, bucket {bucket})
  logs       {logs}/*.log

A first call:

  curl {api_url}/api/jupyter/execute \\
    -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\
    -d '{{"chatId": "first", "code": "print(6 * 7)"}}'
"""
PAGE = """\
  page       {api_url}/  (a notebook in the browser)
"""

OPEN = """\
WARNING: {host} is not loopback: whoever reaches this machine can run code on it, with the API key, or without
by way of the sandboxes' and AWS's ports, which ask for none.
"""
NOT_ISOLATED = """\
WARNING: the sandboxes are not isolated: code in them can do and read whatever you can. Run trusted code alone.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("command", choices=["run", "run-deployed", "demo"])
    parser.add_argument("--reload", action="store_true", help="run: restart the API when its code changes")
    parser.add_argument("--run-dir", type=Path, default=ROOT / ".run", help="for stack.json and the logs")
    asked = parser.parse_args()
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    try:
        settings = replace(Settings.from_environment(), reload=asked.reload)
        if asked.command == "demo":
            return demo(settings, asked.run_dir / "demo")
        return run(settings, asked.run_dir, deployed=asked.command == "run-deployed")
    except KeyboardInterrupt:
        return 130 if asked.command == "demo" else 0
    except (SettingsError, StackError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1


def run(settings: Settings, folder: Path, *, deployed: bool = False) -> NoReturn:
    """Serves until it is interrupted, or until a server dies."""
    started = time.monotonic()
    with _stack(settings, folder, deployed) as stack, _described(stack, folder / "stack.json"):
        page = "" if deployed else PAGE.format(api_url=stack.api_url)  # there it is a stack of its own
        _announce(stack, folder, time.monotonic() - started, page)
        while True:
            stack.check()
            time.sleep(CHECK_EVERY_S)


def _stack(settings: Settings, logs: Path, deployed: bool) -> Stack:
    if not deployed:
        return Stack(settings, logs)
    from local.deployed import DeployedStack  # noqa: PLC0415 - `run` needs nothing of it

    print("Building and deploying template.yaml, which takes half a minute …", flush=True)
    return DeployedStack(settings, logs, lambda what, after_s: print(f"  {after_s:4.0f} s  {what}", flush=True))


def demo(settings: Settings, logs: Path) -> int:
    """The demo's exit code."""
    from local import demo, show  # noqa: PLC0415 - `run` needs neither rich nor httpx

    return demo.run(settings, show.paper(sys.stdout), logs)


@contextmanager
def _described(stack: Stack, path: Path) -> Iterator[None]:
    """`stack.json` is there, whole, for as long as the stack runs."""
    description = {
        "api_url": stack.api_url,
        "sandbox_url": stack.settings.sandbox_url,
        "aws_url": stack.settings.aws_url,
        "api_key": stack.settings.api_key,
        "pids": {"supervisor": os.getpid(), **stack.pids},
    }
    draft = path.with_suffix(".json.new")
    draft.write_text(json.dumps(description, indent=2) + "\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _announce(stack: Stack, logs: Path, after_s: float, page: str) -> None:
    settings = stack.settings
    facts = {"page": page, "table": stack.table, "bucket": stack.bucket, "logs": shown(logs), "seconds": after_s}
    urls = {"api_url": stack.api_url, "sandbox_url": settings.sandbox_url, "aws_url": settings.aws_url}
    if not settings.is_loopback:
        print(OPEN.format(host=settings.host))
    if settings.no_isolation:
        print(NOT_ISOLATED)
    print(READY.format(api_key=settings.api_key, **facts, **urls), flush=True)


def _interrupt(*_: object) -> NoReturn:
    """Ends the program at the first signal; further ones are ignored, so that the end is a clean one."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
