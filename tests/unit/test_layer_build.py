"""`layers/build.py`: which pins, interpreters and files make a layer."""

import gzip
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import botocore
import botocore.session
import e2b
import mcp
import pydantic_core.core_schema
import pytest

from layers.build import (
    AWS_SERVICES,
    UNUSED,
    compile_bytecode,
    copy,
    interpreters,
    pins_for,
    strip,
    trim_endpoints,
)
from layers.rewriting import (
    INWARD,
    LATE,
    LAZY,
    PLAIN_DICTS,
    NotLazy,
    inward,
    late,
    lazy,
    plain_dicts,
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


def laid(folder: Path, *packages: object) -> None:
    """Copies installed packages to where a test may rewrite them."""
    for package in packages:
        source = Path(str(getattr(package, "__file__", None))).parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))


def test_modules_whose_dictionaries_are_plain_offer_what_they_did(tmp_path: Path) -> None:
    """The real ones, for whom the SDK's and pydantic's own modules ask."""
    laid(tmp_path, e2b, pydantic_core)
    for name in PLAIN_DICTS:
        plain_dicts(tmp_path / f"{name}.py")

    for name in PLAIN_DICTS:
        module = name.replace("/", ".")
        tell = f"import {module} as found; print(*sorted(name for name in vars(found) if name[0].isupper()))"
        assert run(tmp_path, tell) == run(tmp_path / "elsewhere", tell)
    told = run(tmp_path, "from e2b.sandbox import mcp, sandbox_api; print(mcp.McpServer, sandbox_api.McpServer)")
    assert told.startswith("<class 'dict'> typing.Union[dict")


def test_pydantic_reads_what_it_did_where_its_schemas_are_plain_dictionaries(tmp_path: Path) -> None:
    laid(tmp_path, pydantic_core)
    plain_dicts(tmp_path / "pydantic_core" / "core_schema.py")
    code = """
from typing import Annotated
from typing_extensions import TypedDict
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import core_schema
class Point(TypedDict):
    x: int
class Model(BaseModel):
    name: Annotated[str, Field(max_length=3)]
    points: list[Point] = []
print(core_schema.ModelSchema)
print(Model.model_validate_json('{"name": "a", "points": [{"x": "1"}]}'))
for wrong in ({"name": "long"}, {"name": "a", "points": [{}]}):
    try:
        Model(**wrong)
    except ValidationError as error:
        print(error.errors(include_url=False))
print(Model.model_json_schema(), TypeAdapter(dict[str, int]).validate_python({"a": "1"}))
"""
    plain, *told = run(tmp_path, code).splitlines()
    schema, *told_before = run(tmp_path / "elsewhere", code).splitlines()
    assert (plain, schema) == ("<class 'dict'>", "<class 'pydantic_core.core_schema.ModelSchema'>")
    assert told == told_before


def test_dictionaries_that_stand_on_others_are_plain_too_and_all_else_is_what_it_was(tmp_path: Path) -> None:
    module = tmp_path / "types_of.py"
    module.write_text(
        "from typing import TypedDict\n"
        "class A(TypedDict, total=False):\n    a: int\n"
        "class B(A):\n    b: int\n"
        "class C:\n    c = [A, B]\n"
        "def d() -> B:\n    return B(b=1)\n"
    )
    plain_dicts(module)
    assert run(tmp_path, "from types_of import *; print(A is dict, B is dict, len(C.c), d())") == (
        "True True 2 {'b': 1}\n"
    )


def test_a_module_without_dictionaries_to_make_plain_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "types_of.py").write_text("from typing import TypedDict\nclass A:\n    pass\n")
    with pytest.raises(NotLazy, match="has no TypedDict"):
        plain_dicts(tmp_path / "types_of.py")


def test_a_client_imports_its_documentation_when_somebody_reads_it(tmp_path: Path) -> None:
    """The real modules, through a real client."""
    laid(tmp_path, boto3, botocore)
    for name in INWARD:
        inward(tmp_path / f"{name}.py")
    code = """
import boto3
session = boto3.session.Session(region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
client = session.client("dynamodb")
print(*{"html.parser", "boto3.docs.service", "botocore.docs.method", "botocore.docs.service"} & {*sys.modules})
print(len(str(client.query.__doc__)), len(str(client.get_paginator("query").paginate.__doc__)))
print(len(str(session.resource("dynamodb").Table.__doc__)))
"""
    loaded, *read = run(tmp_path, code).splitlines()
    loaded_before, *before = run(tmp_path / "elsewhere", code).splitlines()
    assert (loaded, len(loaded_before.split())) == ("", 4)
    assert read == before


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("from os import getpid, sep\nA = sep\ndef f(): return getpid() > 0", "True False\n"),
        ("from os import getpid as pid\nclass C:\n    def f(self): return pid() > 0\nf = C().f", "True False\n"),
        ("from os import getpid, sep\ndef f(a=sep): return getpid() > 0", "True False\n"),
    ],
    ids=["what the module uses stays", "under another name, in a method", "what a default uses stays"],
)
def test_functions_import_what_only_they_use(tmp_path: Path, code: str, told: str) -> None:
    (tmp_path / "module.py").write_text(code)
    inward(tmp_path / "module.py")
    assert run(tmp_path, "import module; print(module.f(), {'getpid', 'pid'} <= {*vars(module)})") == told


@pytest.mark.parametrize("code", ["from os import sep\nA = sep", "import os\ndef f(): return os.sep"])
def test_a_module_that_needs_its_imports_at_first_fails_the_build(tmp_path: Path, code: str) -> None:
    (tmp_path / "module.py").write_text(code)
    with pytest.raises(NotLazy, match="needs at first"):
        inward(tmp_path / "module.py")


def test_a_services_model_is_what_it_was_but_for_its_documentation(tmp_path: Path) -> None:
    data = Path(botocore.__file__).parent / "data"
    for service in AWS_SERVICES:
        shutil.copytree(data / service, tmp_path / "botocore" / "data" / service)
    (before,) = (tmp_path / "botocore" / "data" / "dynamodb").glob("2012-08-10/service-2.json.gz")
    whole = json.loads(gzip.decompress(before.read_bytes()))

    strip(tmp_path)

    kept = json.loads(before.with_suffix("").read_text())
    assert not before.exists()
    assert kept["operations"].keys() == whole["operations"].keys()
    assert kept["shapes"]["QueryInput"]["members"].keys() == whole["shapes"]["QueryInput"]["members"].keys()
    assert whole["operations"]["Query"]["documentation"] and not kept["operations"]["Query"]["documentation"]
    assert len(json.dumps(kept)) < len(json.dumps(whole)) / 2
    told = run(
        tmp_path / "elsewhere",
        "import botocore.session; session = botocore.session.Session()\n"
        f"session.get_component('data_loader').search_paths.insert(0, {str(tmp_path / 'botocore' / 'data')!r})\n"
        "client = session.create_client('dynamodb', region_name='eu-west-1')\n"
        "print(client.meta.service_model.operation_model('Query').documentation, hasattr(client, 'query'))",
    )
    assert told == " True\n"


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
