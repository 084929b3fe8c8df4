"""Builds the `python/` folder of one Lambda layer, on any machine with Python 3.11 and pip, without Docker.

    build.py --to ARTIFACTS/python --requirements requirements.txt [--without name,name]
    build.py --to ARTIFACTS/python --package sandkeeper

The layer is made for the function's Python and processor, whatever Python runs this: pip picks the wheels for
`LAYER_PYTHON` (3.13) and `LAYER_MACHINE` (x86_64). It is then stripped of what never runs in our functions,
packages that import all they have are made to import what is asked for, and it is byte-compiled. The result depends
on the pins and sources alone, so an unchanged layer is not deployed again.

Why bytecode: /opt is read-only, so a layer without it is compiled anew at every cold start. Why unchecked
hashes: zip files do not keep the modification times that ordinary bytecode is validated by.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layers.rewriting import rewrite

# What our functions call, and sts for role credentials. The other four hundred are 90 % of botocore's weight.
AWS_SERVICES = {"dynamodb", "s3", "secretsmanager", "sts"}
# What no function of ours imports: another web framework, template builds, asyncio's twins, reference pages.
UNUSED = (
    "aws_lambda_powertools/event_handler",
    "boto3/examples",
    "e2b/sandbox_async",
    "e2b/template",
    "e2b/template_async",
    "e2b/template_sync",
)
# All that `importlib.metadata` needs to answer for versions and plugins.
KEPT_METADATA = {"METADATA", "entry_points.txt"}
# Amazon Linux 2023, on which Lambda's Pythons run since 3.12, has glibc 2.34.
GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010")


def install(requirements: Path, target: Path, python: str, machine: str, without: set[str]) -> None:
    """Puts the pinned wheels for `python` on `machine` into `target`; raises where one is missing or altered."""
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch, "requirements.txt")
        pins.write_text("\n".join(pins_for(requirements.read_text(), python, machine, without)))
        platforms = [option for glibc in GLIBC for option in ("--platform", f"{glibc}_{machine}")]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The pins are complete; pip would resolve their extras against the newest versions instead.
        exact = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile"]
        wheels = ["--implementation", "cp", "--python-version", python, *platforms]
        subprocess.run([*pip, *exact, *wheels, "--target", target, "--requirement", pins], check=True)


def pins_for(requirements: str, python: str, machine: str, without: set[str]) -> Iterator[str]:
    """Yields the pins that hold in the Lambda. pip itself would judge their markers by the building machine."""
    from pip._vendor.packaging.requirements import Requirement  # noqa: PLC0415  (the other layer needs no pip)

    lambda_environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    for line in requirements.replace("\\\n", " ").splitlines():
        pin, *hashes = line.split(" #")[0].split("--hash=")
        if not hashes or pin.startswith("#"):
            continue
        requirement = Requirement(pin.strip())
        if requirement.name in without:
            continue
        if requirement.marker is None or requirement.marker.evaluate(lambda_environment):
            requirement.marker = None
            yield " ".join([str(requirement), *(f"--hash={digest.strip()}" for digest in hashes)])


def strip(target: Path) -> None:
    """Removes what no Lambda ever runs: scripts, tests, stubs, C sources, foreign services, install records."""
    shutil.rmtree(target / "bin", ignore_errors=True)
    for folder in [*target.rglob("tests"), *target.rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    for part in UNUSED:
        shutil.rmtree(target / part, ignore_errors=True)
    for kind in ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h"):
        for file in target.rglob(kind):
            file.unlink()
    for service in [*target.glob("botocore/data/*/"), *target.glob("boto3/data/*/")]:
        if service.is_dir() and service.name not in AWS_SERVICES:
            shutil.rmtree(service)
    for model in target.glob("botocore/data/*/*/service-2.json.gz"):
        described = json.loads(gzip.decompress(model.read_bytes()))
        model.with_suffix("").write_text(json.dumps(undocumented(described), separators=(",", ":")))
        model.unlink()
    for record in target.glob("*.dist-info/*"):
        if record.is_dir():
            shutil.rmtree(record)
        elif record.name not in KEPT_METADATA:
            record.unlink()


def undocumented(model: Any) -> Any:
    """Returns a service's model with empty documentation: two thirds of what a client has to read at first."""
    match model:
        case dict():
            return {
                name: "" if name == "documentation" and isinstance(value, str) else undocumented(value)
                for name, value in model.items()
            }
        case list():
            return [undocumented(value) for value in model]
    return model


def strip_symbols(target: Path) -> None:
    """Takes names that no loader reads out of compiled modules, a fifth of their size, where this machine can.

    `strip` need not be installed, nor know the layer's processor: then they stay as they are, and work as well.
    """
    if shutil.which("strip") is None:
        return
    for module in target.rglob("*.so"):
        subprocess.run(["strip", "--strip-unneeded", module], stderr=subprocess.DEVNULL, check=False)


def trim_endpoints(target: Path) -> None:
    """Leaves our services' addresses in botocore's list of all, a megabyte that every start would read."""
    path = target / "botocore" / "data" / "endpoints.json"
    if not path.exists():
        return
    endpoints = json.loads(path.read_text())
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in sorted(AWS_SERVICES & services.keys())}
    path.write_text(json.dumps(endpoints, separators=(",", ":")))


def copy(package: Path, target: Path) -> None:
    """Puts our own package into `target`, less what the Pythons of this machine cached in it."""
    shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


def compile_bytecode(target: Path, python: str, *, keep_sources: bool) -> str:
    """Returns how it went, as the end of a sentence; the layer also works without, only starts slower.

    Bytecode without its source lies where the source did, else Python would not find it.
    """
    interpreter = next(interpreters(python), None)
    if interpreter is None:
        return (
            f"NO BYTECODE, as no Python {python} runs on this machine: every cold start will compile the layer "
            f"anew and take several times as long. Install Python {python} and build again"
        )
    hashed = ["--invalidation-mode", "unchecked-hash"]
    as_deployed = ["-s", str(target), "-p", "/opt/python"]
    place = [] if keep_sources else ["-b"]
    # Columns are of use only where a traceback shows the source.
    lines_only = [] if keep_sources else ["-X", "no_debug_ranges"]
    command = [
        interpreter,
        "-I",
        *lines_only,
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        *place,
        *hashed,
        *as_deployed,
        str(target),
    ]
    subprocess.run(command, check=True)
    if not keep_sources:
        for source in target.rglob("*.py"):
            source.unlink()
    return f"{'with' if keep_sources else 'as'} bytecode by {interpreter} {megabytes(target)}"


def interpreters(python: str) -> Iterator[str]:
    """Yields the interpreters of version `python` that really run, which a version manager's shim may not."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    uv = Path("~/.local/share/uv/python").expanduser()
    candidates = [
        sys.executable,
        shutil.which(f"python{python}"),
        *pyenv.glob(f"versions/{python}.*/bin/python{python}"),
        *uv.glob(f"cpython-{python}.*/bin/python{python}"),
    ]
    # Behind a virtual environment or a shim there is the interpreter itself.
    ask = "import sys; v = sys.version_info; print(sys.implementation.name, v[0], v[1], v[3], sys._base_executable)"
    for candidate in map(str, filter(None, candidates)):
        try:
            answer = subprocess.run([candidate, "-I", "-c", ask], capture_output=True, text=True, check=False)
        except OSError:
            continue
        version, _, executable = answer.stdout.strip().partition(" final ")
        if version.split() == ["cpython", *python.split(".")]:
            yield executable


def megabytes(folder: Path) -> str:
    """Returns the size of all files in `folder`, for people."""
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB"


def main() -> None:
    """Builds what the command line asks for; prints one line on stdout, the only output that SAM passes on."""
    arguments = argparse.ArgumentParser(description="Build one Lambda layer.")
    arguments.add_argument("--to", type=Path, required=True, help="the layer's python/ folder, to be created")
    content = arguments.add_mutually_exclusive_group(required=True)
    content.add_argument("--requirements", type=Path, help="hash-pinned requirements to install")
    content.add_argument("--package", type=Path, help="folder of our own package to copy")
    arguments.add_argument("--without", default="", help="pinned packages to leave out, separated by commas")
    wanted = arguments.parse_args()
    python = os.environ.get("LAYER_PYTHON") or "3.13"
    machine = os.environ.get("LAYER_MACHINE") or "x86_64"

    shutil.rmtree(wanted.to, ignore_errors=True)
    wanted.to.mkdir(parents=True)
    if wanted.package:
        copy(wanted.package, wanted.to)
    else:
        install(wanted.requirements, wanted.to, python, machine, set(wanted.without.split(",")))
        strip(wanted.to)
        strip_symbols(wanted.to)
        trim_endpoints(wanted.to)
        rewrite(wanted.to)
    size = megabytes(wanted.to)
    # Of ours the sources stay: sandboxes get the runner's.
    bytecode = compile_bytecode(wanted.to, python, keep_sources=wanted.package is not None)
    print(f"{wanted.to.parent.name}: {size} for Python {python}, {bytecode}.")


if __name__ == "__main__":
    main()
