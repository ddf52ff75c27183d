import re
from pathlib import Path

from helpers import ONCE

import stm_keras
from stm_keras.cli.reference import reference

pytestmark = ONCE  # no backend changes what is tested here

ROOT = Path(__file__).parent.parent


def test_changelog_citation_and_package_name_one_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## ([\d.]+)", changelog, re.M).group(1) == stm_keras.__version__
    assert re.search(r"^version: (.+)$", citation, re.M).group(1) == stm_keras.__version__


def test_the_command_page_is_current():
    assert (ROOT / "docs" / "cli.md").read_text() == reference()


def test_readme_names_every_command_and_only_files_that_exist():
    readme = (ROOT / "README.md").read_text()
    from stm_keras.cli.main import COMMANDS

    for name in COMMANDS:
        assert f"stm-keras {name}" in readme
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link


def test_shipped_models_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "models").iterdir()}
    assert sum(sizes.values()) < 10e6
    small = [name for name in sizes if "_small" in name and not name.endswith(".md")]
    assert sorted(small) == ["h_si100_small.keras", "h_si100_small.onnx"]
    assert max(sizes[name] for name in small) <= 1.05e6
