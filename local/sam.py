"""How the SAM CLI builds and deploys `template.yaml` here, whatever the user's own settings for it are."""

import platform
from collections.abc import Mapping
from pathlib import Path

from local.project import ROOT

SAM = ROOT / ".envs" / "sam" / "bin" / "sam"
MACHINE = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
"""This machine's processor, by the name that wheels have for it."""


def build_command(to: Path, config: Path, template: Path = ROOT / "template.yaml") -> list[str]:
    """The command that builds all layers and functions into a folder of their own, never into `.aws-sam`."""
    places = ["--template-file", str(template), "--build-dir", str(to), "--config-file", str(config)]
    return [str(SAM), "build", "--parallel", *places]


def build_environment(python: str, runs_build: Path) -> dict[str, str]:
    """What `layers/build.py` is told: layers for this Python and this machine, and which interpreter runs it."""
    return {"LAYER_PYTHON": python, "LAYER_MACHINE": MACHINE, "PYTHON": str(runs_build), "SAM_CLI_TELEMETRY": "0"}


def deploy_command(built: Path, config: Path, stack_name: str, parameters: Mapping[str, str]) -> list[str]:
    """The command that deploys a build without asking, to wherever the environment leads."""
    where = ["--template-file", str(built / "template.yaml"), "--config-file", str(config)]
    given = [f"{name}={value}" for name, value in parameters.items()]
    return [
        *(str(SAM), "deploy", *where, "--stack-name", stack_name),
        *("--resolve-s3", "--capabilities", "CAPABILITY_IAM"),
        *("--no-confirm-changeset", "--no-progressbar"),
        *(["--parameter-overrides", *given] if given else []),
    ]


def no_config(folder: Path) -> Path:
    """A configuration that says nothing, in place of `samconfig.toml`: that one is for the user's account."""
    path = folder / "samconfig.toml"
    path.write_text("version = 0.1\n")
    return path
