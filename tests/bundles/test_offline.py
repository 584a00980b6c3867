"""What a bundle's files say and hold: the checks of scripts/verify_bundles, one test each."""
from pathlib import Path

import pytest

from promptzoo.cli.maintain.verify import CHECKS

HERE = Path(__file__).parent


def test_the_first_bundles_are_there():
    """Without this the whole contract would pass over an empty folder."""
    bundles = HERE.parents[1] / "bundles"
    assert {"interactive_refinement_2d", "interactive_refinement_3d"} <= {folder.name for folder in bundles.iterdir()}


@pytest.mark.parametrize("check", CHECKS)
def test_offline(bundle, check):
    if check in bundle.exemptions:
        pytest.skip(f"{bundle.name} is excused by its metadata: {bundle.exemptions[check]}")
    assert CHECKS[check](bundle) == []


def test_exemptions_name_real_checks(bundle):
    tests = {line.split("(")[0].removeprefix("def test_") for file in HERE.glob("test_*.py")
             for line in file.read_text().splitlines() if line.startswith("def test_")}
    assert set(bundle.exemptions) <= tests | set(CHECKS)


def test_family_check(bundle):
    """Every family with a working system has its honest small checks as tests here."""
    if "works" in bundle.systems.values():
        assert (HERE / f"test_family_{bundle.family.replace('-', '_')}.py").is_file()
