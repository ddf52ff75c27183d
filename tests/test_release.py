import ast
import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from helpers import ONCE

import stm_keras
from stm_keras.cli.benchmark import OTHERS
from stm_keras.cli.reference import PAGES
from stm_keras.inference.find_model import shipped_models
from stm_keras.records import HUMAN
from stm_keras.reports.benchmark import results_page
from stm_keras.reports.human import verdict

pytestmark = ONCE  # no backend changes what is tested here

ROOT = Path(__file__).parent.parent


def test_changelog_citation_and_package_name_one_version_and_its_date():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version, date = re.search(r"^## ([\d.]+) - (.+)$", changelog, re.M).groups()
    assert version == stm_keras.__version__
    assert re.search(r"^version: (.+)$", citation, re.M).group(1) == stm_keras.__version__
    assert re.search(r'^date-released: "(.+)"$', citation, re.M).group(1) == date
    assert changelog.index("## Unreleased\n") < changelog.index(f"## {version}")


def test_pages_that_name_the_version_name_this_one():
    live = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert f"wheels/stm_keras-{stm_keras.__version__}-py3" in live
    series = stm_keras.__version__.rpartition(".")[0]
    assert f"Fixes are made for the last version, {series};" in security


@pytest.mark.parametrize("name", PAGES)
def test_pages_that_are_written_from_the_code_are_current(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name]()


def test_pages_include_files_that_exist():
    pages = [*(ROOT / "docs").rglob("*.md")]
    texts = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert "--8 <" not in texts, "a formatter took the mark of an included file for Python"
    included = re.findall(r'^--8<-- "(.+)"$', texts, re.M)
    assert len(included) == 8
    assert all((ROOT / path).is_file() for path in included)


def test_a_row_of_a_table_is_one_line():
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
    cut = re.compile(r"^\|.*[^|\s]\s*$", re.M)  # ends without the bar that it began with
    assert [
        page.name for page in pages if cut.search(page.read_text(encoding="utf-8"))
    ] == []


def test_every_setting_is_explained():
    page = PAGES["settings.md"]()
    assert "|  |" not in page, "give each setting a `description` in settings.py"
    assert page.count("\n## ") == 12


def test_readme_names_every_command_and_only_files_that_exist():
    readme = (ROOT / "README.md").read_text()
    from stm_keras.cli.main import COMMANDS

    for name in COMMANDS:
        assert f"stm-keras {name}" in readme
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    ("scores", "page"),
    [("results", "results.md")]
    + [(name, f"notebook/{name}.md") for name in ("ablation", "labels", "baselines")],
)
def test_pages_of_results_are_what_the_tool_writes_of_their_scores(
    scores, page, monkeypatch
):
    rows = json.loads((ROOT / "benchmarks" / f"{scores}.json").read_text(encoding="utf-8"))
    models = [(each.name, each.metadata) for each in shipped_models()]
    text = results_page(rows, "nottingham.h5", models if scores == "results" else ())
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    tool, mark, others = written.partition(f"\n{OTHERS}")
    assert tool == text
    if scores == "results":
        monkeypatch.syspath_prepend(ROOT / "benchmarks")  # which is no part of the package
        sections = []
        for name in ("adapt", "pixels"):
            measured = ROOT / "benchmarks" / f"{name}.json"
            measured = json.loads(measured.read_text(encoding="utf-8"))
            sections.append(importlib.import_module(name).page(measured))
        assert f"{mark}{others}".lstrip("\n") == "\n".join(sections)


def _public(name):
    """Return the module's path and the functions that a public name is made of."""
    path = ROOT / "stm_keras" / Path(*stm_keras.NAMES[name].split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (node,) = [each for each in tree.body if getattr(each, "name", None) == name]
    inside = node.body if isinstance(node, ast.ClassDef) else [node]
    functions = [each for each in inside if isinstance(each, ast.FunctionDef)]
    return path, [f for f in functions if f.name == "__init__" or f.name[0] != "_"]


def test_public_functions_say_their_types_and_mypy_reads_them():
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checked = checked["tool"]["mypy"]["files"]
    untyped = []
    for name in stm_keras.NAMES:
        path, functions = _public(name)
        assert str(path.relative_to(ROOT)) in checked, f"add {path} to [tool.mypy]"
        for function in functions:
            given = function.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            missing = [a.arg for a in arguments if a.annotation is None]
            missing = [a for a in missing if a not in ("self", "cls")]
            if function.returns is None and function.name != "__init__":
                missing.append("return")
            untyped += [f"{name}.{function.name}: {each}" for each in missing]
    assert not untyped
    assert (ROOT / "stm_keras" / "py.typed").is_file()


def test_the_readme_quotes_scores_that_the_results_page_has():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)`[^|]*, ([^|]+) \|[^|]+\| (.+) \|$", readme, re.M)
    assert len(rows) == 4
    for config, scans, scores in rows:
        which = scans.removesuffix(" scans").removesuffix(" of raters")
        row = f"| {config} | 5 of 5 | {which} | "
        assert any(
            line.startswith(row) and f"| {scores} |" in line
            for line in results.splitlines()
        ), (config, scans, scores)


def test_the_readme_says_of_models_beside_raters_what_was_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    (human,) = (row for row in rows if row["config"] == HUMAN)
    quoted = re.findall(r"^\| [^|`]+ \| [^|]+ \| \d+ \| .+ \|$", readme, re.M)
    models = human["models"]
    # a variant speaks for its config only as long as that one itself was not measured
    shown = [name for name in models if name.partition("+")[0] not in {*models} - {name}]
    assert len(quoted) == 2 + 2 * len(shown)
    assert all(line in results for line in quoted)
    for config in shown:
        model = models[config]
        assert f"`{config}` is {verdict(model['beside'])}" in " ".join(readme.split())
    values = human["ceiling"]["scores"]["single-class"]
    auroc, balanced = (values[name][0] for name in ("auroc", "balanced_accuracy"))
    said = f"The votes leave about {auroc:.3f} AUROC and {balanced:.3f} balanced accuracy"
    assert said in " ".join(readme.split())


def test_shipped_models_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "models").iterdir()}
    assert sum(sizes.values()) < 30e6
    small = [name for name in sizes if "_small" in name and not name.endswith(".md")]
    assert sorted(small) == ["h_si100_small.keras", "h_si100_small.onnx"]
    assert all(sizes[name] < 0.6 * sizes[name.replace("_small", "")] for name in small)
