"""`layers/build.py`: which pins, interpreters and files make a layer."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import e2b
import mcp
import pytest

from layers.build import (
    AWS_SERVICES,
    LATE,
    LAZY,
    TYPES_ONLY,
    UNUSED,
    NotLazy,
    compile_bytecode,
    copy,
    interpreters,
    late,
    lazy,
    pins_for,
    strip,
    trim_endpoints,
    types_only,
)

REQUIREMENTS = """\
# a comment
everywhere==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via something
only-linux==2.0 ; sys_platform == 'linux' and platform_machine == 'x86_64' \\
    --hash=sha256:cc
only-mac==3.0 ; sys_platform == 'darwin' \\
    --hash=sha256:dd
before-twelve==4.0 ; python_full_version < '3.12' \\
    --hash=sha256:ee
"""


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")


def test_markers_are_judged_by_the_lambda_and_not_by_the_building_machine() -> None:
    assert list(pins_for(REQUIREMENTS, "3.13", "x86_64", without=set())) == [
        "everywhere==1.0 --hash=sha256:aa --hash=sha256:bb",
        "only-linux==2.0 --hash=sha256:cc",
    ]


def test_what_is_left_out_is_not_installed() -> None:
    [pin] = pins_for(REQUIREMENTS, "3.13", "aarch64", without={"only-linux", "before-twelve"})
    assert pin.startswith("everywhere==1.0 ")


def test_interpreters_are_found_behind_virtual_environments_and_only_where_they_run() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert sys._base_executable in interpreters(here)  # type: ignore[attr-defined]
    assert list(interpreters("3.0")) == []


def test_a_stripped_layer_keeps_code_versions_and_our_aws_services(tmp_path: Path) -> None:
    kept = [
        tmp_path / "package" / "module.py",
        tmp_path / "package" / "testing.py",
        tmp_path / "package-1.dist-info" / "METADATA",
        tmp_path / "package-1.dist-info" / "entry_points.txt",
        tmp_path / "botocore" / "data" / "endpoints.json",
        *(tmp_path / "botocore" / "data" / service / "service.json" for service in AWS_SERVICES),
    ]
    dropped = [
        tmp_path / "bin" / "script",
        tmp_path / "package" / "module.pyi",
        tmp_path / "package" / "tests" / "test_module.py",
        tmp_path / "package" / "__pycache__" / "module.pyc",
        tmp_path / "package-1.dist-info" / "RECORD",
        tmp_path / "package-1.dist-info" / "licenses" / "LICENSE",
        tmp_path / "botocore" / "data" / "ec2" / "service.json",
        *(tmp_path / part / "module.py" for part in UNUSED),
    ]
    touch(*kept, *dropped)
    strip(tmp_path)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(kept)


def test_botocore_keeps_the_addresses_of_our_services_alone(tmp_path: Path) -> None:
    path = tmp_path / "botocore" / "data" / "endpoints.json"
    touch(path)
    services: dict[str, object] = {"s3": {"endpoints": {"eu-west-1": {}}}, "ec2": {}}
    path.write_text(json.dumps({"version": 3, "partitions": [{"partition": "aws", "services": services}]}))
    trim_endpoints(tmp_path)
    assert json.loads(path.read_text()) == {
        "version": 3,
        "partitions": [{"partition": "aws", "services": {"s3": {"endpoints": {"eu-west-1": {}}}}}],
    }


def run(folder: Path, code: str) -> str:
    """Returns what the code prints, for whom the folder comes before all else that is installed."""
    script = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_lazy_package_offers_what_it_did(tmp_path: Path) -> None:
    """The real one: all of it, but what `UNUSED` takes away with template builds and asyncio's twins."""
    for package in (e2b, mcp):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LAZY:
        lazy(tmp_path / name)
    for name in map(str, LAZY):
        module = name.replace("/", ".")
        tell = (
            f"import {module} as found\n"
            "for name in sorted(found.__all__):\n"
            "    value = getattr(found, name)\n"
            "    print(name, getattr(value, '__module__', ''), getattr(value, '__qualname__', type(value)))"
        )
        assert run(tmp_path, tell) == run(tmp_path / "elsewhere", tell)
        assert set(importlib.import_module(module).__all__) <= set(run(tmp_path, tell).split())


def test_a_lazy_package_imports_what_is_asked_for_and_no_more(tmp_path: Path) -> None:
    package = tmp_path / "laid"
    touch(package / "one.py", package / "other.py")
    (package / "__init__.py").write_text('"""Parts."""\nfrom .one import ONE\nfrom .other import OTHER as SECOND\n')
    (package / "one.py").write_text("ONE = 1")
    (package / "other.py").write_text("OTHER = 2")
    lazy(package)
    loaded = "print([name for name in sys.modules if name.startswith('laid.')])"
    assert run(tmp_path, f"import laid; {loaded}") == "[]\n"
    assert run(tmp_path, f"from laid import SECOND; {loaded}; print(SECOND)") == "['laid.other']\n2\n"
    assert run(tmp_path, "import laid; print(hasattr(laid, 'THIRD'), 'ONE' in dir(laid))") == "False True\n"


@pytest.mark.parametrize("statement", ["import os", "x = 1", "from os import path", "from .one import *"])
def test_a_package_that_does_more_than_import_its_parts_fails_the_build(tmp_path: Path, statement: str) -> None:
    touch(tmp_path / "one.py")
    (tmp_path / "__init__.py").write_text(statement)
    with pytest.raises(NotLazy, match=":1 "):
        lazy(tmp_path)


def test_a_module_of_types_still_offers_them(tmp_path: Path) -> None:
    """The real one, for whom the SDK's own modules ask."""
    source = Path(str(e2b.__file__)).parent
    shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in TYPES_ONLY:
        types_only(tmp_path / f"{name}.py")

    told = run(tmp_path, "from e2b.sandbox import mcp, sandbox_api; print(mcp.McpServer, sandbox_api.McpServer)")
    assert told.startswith("<class 'dict'> typing.Union[dict")
    assert set(vars(importlib.import_module("e2b.sandbox.mcp"))) >= set(
        run(
            tmp_path, "from e2b.sandbox import mcp; print(*(name for name in vars(mcp) if name[0].isupper()))"
        ).split()
    )


@pytest.mark.parametrize(
    "statement", ["x = 1", "class A: pass", "def f(): pass", "class A(TypedDict, Other): pass"]
)
def test_a_module_that_does_more_than_describe_dictionaries_fails_the_build(tmp_path: Path, statement: str) -> None:
    (tmp_path / "types.py").write_text(f"from typing import TypedDict\n{statement}")
    with pytest.raises(NotLazy, match=":2 "):
        types_only(tmp_path / "types.py")


def test_names_that_come_late_are_what_they_were_and_import_nothing_before(tmp_path: Path) -> None:
    """The real module, which imports all of S3's transfers for one name of theirs."""
    source = Path(str(boto3.__file__)).parent
    shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, names in LATE.items():
        late(tmp_path / f"{name}.py", names)

    loaded = "print([name for name in sys.modules if name.startswith('s3transfer')])"
    assert run(tmp_path, f"import boto3.session; {loaded}") == "[]\n"
    tell = "from boto3.compat import TRANSFER_CONFIG_SUPPORTS_CRT, TransferConfig; print(TransferConfig.__module__)"
    assert run(tmp_path, tell) == "s3transfer.manager\n"
    same = "from boto3 import compat; print(compat.TRANSFER_CONFIG_SUPPORTS_CRT, hasattr(compat, 'no such'))"
    assert run(tmp_path, same) == run(tmp_path / "elsewhere", same)
    assert run(tmp_path, "import boto3.s3.inject; print(boto3.s3.inject.TransferConfig.__module__)") == (
        "boto3.s3.transfer\n"
    )


@pytest.mark.parametrize(
    "code",
    ["from os import a\nb = a", "from os import a as b", "import a", "if True:\n    from os import a", "x = 1"],
    ids=["used", "under another name", "a module", "at times", "not there"],
)
def test_names_that_cannot_come_late_fail_the_build(tmp_path: Path, code: str) -> None:
    (tmp_path / "module.py").write_text(code)
    with pytest.raises(NotLazy, match="cannot do without"):
        late(tmp_path / "module.py", {"a"})


@pytest.mark.parametrize("keep_sources", [True, False], ids=["with sources", "without"])
def test_bytecode_is_found_with_its_source_and_without(tmp_path: Path, keep_sources: bool) -> None:
    touch(tmp_path / "package" / "__init__.py")
    source = tmp_path / "package" / "module.py"
    source.write_text("def where(): return where.__code__.co_filename")
    compile_bytecode(tmp_path, f"{sys.version_info.major}.{sys.version_info.minor}", keep_sources=keep_sources)
    assert source.exists() == keep_sources
    told = run(tmp_path, "from package import module; print(module.where())")
    assert told == f"{source if keep_sources else '/opt/python/package/module.py'}\n"


def test_our_package_is_copied_without_what_pythons_cached_in_it(tmp_path: Path) -> None:
    source = tmp_path / "sandkeeper"
    touch(source / "model.py", source / "py.typed", source / "__pycache__" / "model.cpython-311.pyc")
    copy(source, tmp_path / "layer")
    copied = {file.name for file in (tmp_path / "layer").rglob("*") if file.is_file()}
    assert copied == {"model.py", "py.typed"}
