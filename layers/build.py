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
import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

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
# Packages that import all they have when anything of them is imported: see `lazy`.
LAZY = ("e2b", "e2b/api/client/models", "mcp", "mcp/server")
# Packages from which a lazy one passes names on beside its own.
PASSED_ON = ("mcp_types",)
# Modules whose `TypedDict`s nobody looks into while a program runs: see `plain_dicts`.
PLAIN_DICTS = ("e2b/sandbox/mcp", "e2b/sandbox/sandbox_api", "pydantic_core/core_schema")
# Names of modules that hardly any call asks for, and that take long to import: see `late`.
LATE = {"boto3/compat": {"TransferConfig", "TRANSFER_CONFIG_SUPPORTS_CRT"}}
# Modules that import what few of their functions need: a client's documentation, which is written when it is read.
INWARD = ("boto3/docs/__init__", "boto3/docs/docstring", "botocore/docs/__init__", "botocore/docs/docstring")
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


def lazy(package: Path) -> None:
    """Has the package import a name when it is first asked for, where its `__init__` imports all of them at once.

    What it offers stays the same. Raises `NotLazy` for a package that does more than that when it is imported.
    """
    source = package / "__init__.py"
    kept: list[ast.stmt] = []
    origins: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(source.read_text()).body:
        match statement:
            case ast.ImportFrom(module="__future__") | ast.Expr(value=ast.Constant()):
                kept.append(statement)
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                kept.append(statement)
            case ast.ImportFrom(module=module, names=names, level=1) if names[0].name != "*":
                origins |= {name.asname or name.name: (f".{module or ''}", name.name) for name in names}
            case ast.ImportFrom(module=str(module), names=names, level=0) if module in PASSED_ON:
                origins |= {name.asname or name.name: (module, name.name) for name in names}
            case _:
                raise NotLazy(f"{source}:{statement.lineno} is no import of its own: take it out of LAZY")
    # A submodule hides what is imported under its name, as soon as it is imported itself.
    origins = {name: origin for name, origin in origins.items() if not _is_module(package, name)}
    kept_source = ast.unparse(ast.Module(kept, type_ignores=[]))
    source.write_text(f"{kept_source}\n\n_ORIGINS = {origins!r}\n{LAZY_GETATTR}")


class NotLazy(Exception):
    """A package cannot be made to import its parts one by one."""


# PEP 562: asked for what the module has not.
LAZY_GETATTR = """

def __getattr__(name):
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    from importlib import import_module

    module, attribute = _ORIGINS[name]
    value = globals()[name] = getattr(import_module(module, __name__), attribute)
    return value


def __dir__():
    return sorted({*globals(), *_ORIGINS})
"""


def plain_dicts(module: Path) -> None:
    """Has a module's `TypedDict`s be `dict`, which they are when a program runs, and describe no keys.

    To make a hundred of them takes longer than a request. Raises `NotLazy` where there are none.
    """
    plain = {"TypedDict"}
    statements: list[ast.stmt] = []
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.ClassDef(name=name, bases=[ast.Name(id=base)], decorator_list=[]) if base in plain:
                plain.add(name)
                statements += ast.parse(f"{name} = dict").body
            case _:
                statements.append(statement)
    if len(plain) == 1:
        raise NotLazy(f"{module} has no TypedDict: take it out of PLAIN_DICTS")
    module.write_text(ast.unparse(ast.Module(statements, type_ignores=[])))


def inward(module: Path) -> None:
    """Has a module's functions import what only they use of what it imports, when they are called.

    Raises `NotLazy` where it imports nothing of that kind.
    """
    statements, inside = list[ast.stmt](), list[ast.FunctionDef]()
    outside, imports = list[ast.AST](), dict[str, ast.ImportFrom]()
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.ImportFrom(module=source, names=names):
                imports |= {each.asname or each.name: ast.ImportFrom(source, [each], 0) for each in names}
                continue
            case ast.FunctionDef():
                inside.append(statement)
            case ast.ClassDef(bases=bases, body=body):
                inside += (part for part in body if isinstance(part, ast.FunctionDef))
                outside += [*bases, *(part for part in body if not isinstance(part, ast.FunctionDef))]
            case _:
                outside.append(statement)
        statements.append(statement)
    outside += (part for function in inside for part in (function.args, *function.decorator_list))
    used = _names_in(outside)
    for function in inside:
        function.body[:0] = [imports[name] for name in sorted((imports.keys() - used) & _names_in(function.body))]
    if used >= imports.keys():
        raise NotLazy(f"{module} needs at first what it imports: take it out of INWARD")
    kept = [imports[name] for name in imports if name in used]
    module.write_text(ast.unparse(ast.fix_missing_locations(ast.Module([*kept, *statements], type_ignores=[]))))


def _names_in(parts: Iterable[ast.AST]) -> set[str]:
    return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}


def late(module: Path, names: set[str]) -> None:
    """Has a module bind these names when they are first asked for, by others: it must not use them itself.

    Raises `NotLazy` where it does, or binds them in other ways than by imports and assignments.
    """
    kept, moved = list[ast.stmt](), list[ast.stmt]()
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.ImportFrom(names=[ast.alias(name=name, asname=None)]) if name in names:
                moved.append(statement)
            case ast.Assign(targets=[ast.Name(id=name)]) if name in names:
                moved.append(statement)
            case _:
                kept.append(statement)
    if names & _names_in(kept) or len(moved) != len(names):
        raise NotLazy(f"{module} cannot do without {sorted(names)} at first: take it out of LATE")
    asked = ast.parse(LATE_GETATTR.format(names=", ".join(sorted(names)), among=sorted(names)))
    function = asked.body[0]
    assert isinstance(function, ast.FunctionDef)  # noqa: S101
    function.body[2:2] = moved
    module.write_text(ast.unparse(ast.Module([*kept, function], type_ignores=[])))


# PEP 562, as above. The statements that bind the names come before the last one.
LATE_GETATTR = """
def __getattr__(name):
    global {names}
    if name not in {among}:
        raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}", name=name, obj=None)
    return globals()[name]
"""


def _is_module(package: Path, name: str) -> bool:
    return (package / f"{name}.py").exists() or (package / name).is_dir()


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
        for name in LAZY:
            if (wanted.to / name).exists():
                lazy(wanted.to / name)
        for name in PLAIN_DICTS:
            if (module := wanted.to / f"{name}.py").exists():
                plain_dicts(module)
        for name in INWARD:
            if (module := wanted.to / f"{name}.py").exists():
                inward(module)
        for name, names in LATE.items():
            if (module := wanted.to / f"{name}.py").exists():
                late(module, names)
    size = megabytes(wanted.to)
    # Of ours the sources stay: sandboxes get the runner's.
    bytecode = compile_bytecode(wanted.to, python, keep_sources=wanted.package is not None)
    print(f"{wanted.to.parent.name}: {size} for Python {python}, {bytecode}.")


if __name__ == "__main__":
    main()
