"""What strangers see first: the paper, the comparison, forms for issues, a registry's page."""

import re

import pytest
import yaml
from helpers import ONCE, REPOSITORY

from stm_keras.cli.main import COMMANDS

pytestmark = ONCE  # no backend changes what is tested here

FORMS = REPOSITORY / ".github" / "ISSUE_TEMPLATE"
SECTIONS = [  # which the Journal of Open Source Software requires, in its order
    "Summary",
    "Statement of need",
    "State of the field",
    "Software design",
    "Research impact statement",
    "AI usage disclosure",
    "Acknowledgements",
    "References",
]
ATTRIBUTES = {  # kind of a form's part: attributes that it may have, the first one needed
    "markdown": ["value"],
    "input": ["label", "description", "placeholder", "value"],
    "textarea": ["label", "description", "placeholder", "value", "render"],
    "dropdown": ["label", "description", "multiple", "options", "default"],
    "checkboxes": ["label", "description", "options"],
}


def read(name):
    """Return the text of a file of the repository."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def paper():
    """Return the paper's metadata and its text without comments."""
    _, metadata, text = read("paper.md").split("---\n", 2)
    return yaml.safe_load(metadata), re.sub(r"<!--.*?-->", "", text, flags=re.S)


def test_the_paper_has_the_form_that_the_journal_asks_for():
    metadata, text = paper()
    assert re.findall(r"^# (.+)$", text, re.M) == SECTIONS
    assert 750 <= len(text.split()) <= 1750
    assert {"title", "tags", "authors", "affiliations", "date"} <= set(metadata)
    assert (REPOSITORY / metadata["bibliography"]).is_file()
    places = {str(place["index"]) for place in metadata["affiliations"]}
    assert {str(author["affiliation"]) for author in metadata["authors"]} <= places


def test_the_paper_cites_what_its_bibliography_has():
    entries = re.findall(r"^@\w+\{(\w+),", read("paper.bib"), re.M)
    assert set(re.findall(r"@(\w+)", paper()[1])) == set(entries)
    assert len(entries) == len(set(entries))
    dois = re.findall(r"doi\s*= \{(.+)\}", read("paper.bib"))
    assert all(re.fullmatch(r"10\.\d{4,5}/\S+", doi) for doi in dois)


def test_rows_of_the_papers_table_are_those_of_the_results():
    rows = re.findall(r"^\| `([^`]+)`([^|]*) \| (P\d) \| (.+) \|$", paper()[1], re.M)
    assert len(rows) == 4
    results = read("docs/results.md")
    for config, more, protocol, scores in rows:
        section = results.split(f"\n## {protocol},")[1].split("\n## ")[0]
        scans = "full agreement" if "full agreement" in more else "all single-class"
        row = rf"^\| {re.escape(config)} \| (\d) of \1 \| {scans} \| \d+ \| {re.escape(scores)} \|"
        assert re.search(row, section, re.M), (config, protocol)


@pytest.mark.parametrize("name", ["paper.md", "docs/comparison.md", "DESCRIPTION.md"])
def test_numbers_of_a_page_are_measured(name):
    results = read("docs/results.md")
    numbers = re.findall(
        r"(?<![\d.])[-+]?\d\.\d{3}\b(?: \[[^]]+\])?", " ".join(read(name).split())
    )
    assert len(numbers) >= 1
    assert [number for number in numbers if number not in results] == []


def test_the_comparison_is_found_and_names_where_it_looked():
    page = read("docs/comparison.md")
    assert "comparison.md" in read("mkdocs.yml")
    assert "](comparison.md)" in read("docs/index.md")
    assert "](docs/comparison.md)" in read("README.md")
    known = re.findall(r"doi\s*= \{(.+)\}", read("paper.bib"))
    linked = re.findall(r"https://doi\.org/([^)\s]+)\)", page)
    assert set(known) - set(linked) <= {"10.1088/1361-6528/28/7/075302"}, "left out"
    sections = page.split("\n## ")[1:-2]  # but for people, and what was not compared
    for section in sections:
        assert "- **Better:**" in section
        assert re.search(r"\*\*(Licence|Code)", section), section[:20]
        assert "- **Instead" in section


def test_a_registry_shows_no_dead_link():
    text = read("DESCRIPTION.md")
    assert "long_description = file: DESCRIPTION.md\n" in read("setup.cfg")
    assert "![" not in text
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]+)\)", text))
    assert set(re.findall(r"^stm-keras (\w+)", text, re.M)) <= set(COMMANDS)


@pytest.mark.parametrize("form", ["bug", "file_format", "microscope", "verdict"])
def test_forms_for_issues_are_such_as_the_hosting_takes(form):
    content = yaml.safe_load((FORMS / f"{form}.yml").read_text(encoding="utf-8"))
    assert set(content) == {"name", "description", "labels", "body"}
    assert all(isinstance(content[key], str) for key in ("name", "description"))
    ids = []
    for part in content["body"]:
        allowed = ATTRIBUTES[part["type"]]
        assert allowed[0] in part["attributes"]
        assert set(part["attributes"]) <= set(allowed)
        assert set(part) <= {"type", "id", "attributes", "validations"}
        assert isinstance(part.get("validations", {}).get("required", False), bool)
        if part["type"] != "markdown":
            ids.append(part["id"])
    assert len(ids) == len(set(ids)) >= 4


def test_every_form_is_tested_and_asks_for_what_the_commands_tell():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in FORMS.glob("*.yml")}
    assert yaml.safe_load(texts.pop("config"))["blank_issues_enabled"] is True
    assert set(texts) == {"bug", "file_format", "microscope", "verdict"}
    for form, command in {
        "bug": "doctor",
        "file_format": "info FILE --json",
        "microscope": "connect nanonis://HOST",
        "verdict": "predict FILE --json",
    }.items():
        assert f"`stm-keras {command}`" in texts[form]
        assert command.split()[0] in COMMANDS
