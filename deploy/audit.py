"""`python -m deploy.audit`: looks up what is shipped and run here among known vulnerabilities, by pip-audit."""

import argparse
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from local.project import ROOT

PIP_AUDIT = ROOT / ".envs" / "audit" / "bin" / "pip-audit"
PINS = (
    "layers/dependencies/requirements.txt",
    "layers/ingest/requirements.txt",
    "layers/mcp/requirements.txt",
    "requirements/run.txt",
    "requirements/chat.txt",
)
SERVICE = "https://api.osv.dev/v1/query"
"""OSV, the open database of vulnerabilities."""
REACHED_WITHIN_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if nothing is known of any pinned package, 1 if something is or the service could not be asked."""
    parser = argparse.ArgumentParser(prog="python -m deploy.audit", description=__doc__)
    parser.add_argument("--service", default=SERVICE, metavar="URL", help="where to ask")
    parser.add_argument(
        "--unless-offline",
        action="store_true",
        help="take a machine that cannot reach the service for none that can tell, say so, and succeed",
    )
    parser.add_argument("pins", nargs="*", help="files with pinned requirements")
    asked = parser.parse_args(arguments)

    if reason := unreachable(asked.service):
        print(f"NOT AUDITED: {asked.service} cannot be reached from here ({reason})", file=sys.stderr)
        return 0 if asked.unless_offline else 1
    failed = False
    for pins in asked.pins or PINS:
        print(f"{pins}: ", end="", flush=True)
        failed = subprocess.run(_command(asked.service, ROOT / pins), check=False).returncode != 0 or failed
    return int(failed)


def unreachable(service: str) -> str | None:
    """Returns why there is no way to the service; None if there is one, whatever it answers."""
    try:
        with urlopen(service, timeout=REACHED_WITHIN_S):  # noqa: S310 - it is ours to name
            return None
    except HTTPError:
        return None
    except (URLError, OSError) as error:
        return str(getattr(error, "reason", error))


def _command(service: str, pins: Path) -> list[str]:
    asked = ["--vulnerability-service", "osv", "--osv-url", service, "--requirement", str(pins)]
    return [str(PIP_AUDIT), "--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off", *asked]


if __name__ == "__main__":
    sys.exit(main())
