"""The frame of the repository: what is installed, what is pinned, and the scripts that a person runs."""
import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("serve", "test", "new_bundle", "verify_bundles", "make_release")


def _name(requirement):
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ \[;]", requirement.strip())[0]).lower()


@pytest.fixture(scope="module")
def setup():
    """setup.cfg, parsed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _names(text):
    return {_name(line) for line in text.splitlines() if line.strip()}


def test_base_pulls_no_torchvision_timm_or_cuda(setup):
    base = _names(setup["options"]["install_requires"])
    assert {"torch", "monai", "openvino", "highdicom", "transformers", "typer"} <= base
    assert not base & {"torchvision", "timm", "tensorrt", "triton", "open-clip-torch", "monailabel"}
    extras = {extra: _names(text) for extra, text in setup["options.extras_require"].items()}
    assert set(extras) == {"label", "models", "export", "trt", "scale", "test"}
    assert {extra for extra, names in extras.items() if "torchvision" in names} == {"label", "models"}


def test_everything_is_pinned_but_tensorrt(setup):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {_name(line) for line in lines if "==" in line and not line.startswith("#")}
    wanted = _names(setup["options"]["install_requires"])
    for extra, text in setup["options.extras_require"].items():
        wanted |= _names(text) if extra != "trt" else set()
    assert wanted <= pins
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines if not line.startswith("#"))


def test_data_files_of_the_package_are_installed(setup):
    """Patterns count from the folder of a package, and do not go below it."""
    patterns = [pattern.strip() for pattern in setup["options.package_data"]["*"].split(",")]
    packages = [file.parent for file in (ROOT / "promptzoo").rglob("__init__.py")]
    installed = {file for package in packages for pattern in patterns for file in package.glob(pattern)}
    files = {f for f in (ROOT / "promptzoo").rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert files and sorted(f.name for f in files - installed) == []


def test_scripts_are_programs_and_no_package():
    assert not (ROOT / "scripts" / "__init__.py").exists()
    for script in [*(ROOT / "scripts" / name for name in SCRIPTS), ROOT / ".ci" / "run"]:
        assert os.access(script, os.X_OK) and script.read_text().startswith("#!/usr/bin/env ")
        subprocess.run(["bash", "-n", str(script)], check=True)
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()


def test_a_machine_without_python_3_11_is_told_so(tmp_path):
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    answer = subprocess.run([str(tmp_path / "bash"), str(ROOT / "scripts" / "serve")], cwd=tmp_path,
                            env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert answer.returncode == 1 and answer.stdout == ""
    assert "promptzoo needs Python 3.11" in answer.stderr and "PYTHON=" in answer.stderr


def test_no_python_in_bundles_and_no_package_of_tests_inside_the_package():
    assert not list((ROOT / "bundles").glob("**/*.py"))
    assert not list((ROOT / "promptzoo").glob("**/test_*.py"))
