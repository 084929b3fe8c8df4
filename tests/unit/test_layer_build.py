"""`layers/build.py`: which pins, interpreters and files make a layer."""

import sys
from pathlib import Path

from layers.build import AWS_SERVICES, copy, interpreters, pins_for, strip

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
    ]
    touch(*kept, *dropped)
    strip(tmp_path)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(kept)


def test_our_package_is_copied_without_what_pythons_cached_in_it(tmp_path: Path) -> None:
    source = tmp_path / "sandkeeper"
    touch(source / "model.py", source / "py.typed", source / "__pycache__" / "model.cpython-311.pyc")
    copy(source, tmp_path / "layer")
    copied = {file.name for file in (tmp_path / "layer").rglob("*") if file.is_file()}
    assert copied == {"model.py", "py.typed"}
