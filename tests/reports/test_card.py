import numpy as np
import pytest

from stm_keras.data.dataset import CLASSES
from stm_keras.errors import OutputError
from stm_keras.evaluation.held_out import Compared, score_compared
from stm_keras.evaluation.scores import score_predictions
from stm_keras.evaluation.text import PROTOCOLS, bounds, fact, number, protocol
from stm_keras.reports.card import write_card
from stm_keras.reports.page import caveats

FACTS = {
    "model": "vit",
    "data": "scans|<b>_of_today_.h5",
    "data_licence": "GPL-3.0",
    "protocol": "p1",
    "command": "stm-keras train a*b.toml\nstm-keras evaluate x_y_z.keras ```",
    "best_epoch": 12,
    "versions": {"keras": "3.15.1"},
}


def make(classes=CLASSES):
    random = np.random.default_rng(0)
    labels = np.r_[np.arange(4), random.integers(4, size=36)]
    scores = random.random((40, 4)) + 0.5 * np.eye(4)[labels]
    scores /= scores.sum(1, keepdims=True)
    more = {"by_lines": {3: scores}, "consensus": labels > 0, "resamples": 20}
    return score_predictions(labels, scores, classes, **more)


def test_a_card_holds_everything(tmp_path):
    scores = make()
    write_card(tmp_path / "card.md", FACTS, scores)
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    low, high = scores["intervals"]["auroc"]
    assert f"| {scores['auroc']:.3f} [{low:.3f}, {high:.3f}] |" in text
    for part in ("# vit", "GPL-3.0", "P1, random split per scan", "H:Si(100)", "consensus"):
        assert part in text
    for title in ("Data", "Protocol", "Scores", "Limits", "Make it again", "Facts"):
        assert f"\n## {title}\n" in text
    assert "- best epoch: 12" in text
    assert "- versions: keras 3.15.1" in text


def test_markdown_in_names_is_text(tmp_path):
    write_card(tmp_path / "card.md", FACTS, make(("a|b", "<i>c", "*d*", "e_f")))
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert r"scans\|\<b\>\_of_today\_.h5" in text
    assert r"| a\|b |" in text
    assert r"| \*d\* |" in text
    assert r"| e_f |" in text
    assert "H:Si(100)" not in text
    rows = [line for line in text.splitlines() if line.startswith(r"| a\|b |")]
    assert rows[0].replace(r"\|", "").count("|") == 6


def test_the_command_can_be_copied(tmp_path):
    write_card(tmp_path / "card.md", FACTS, make())
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert f"````sh\n{FACTS['command']}\n````" in text


def test_missing_facts_are_unknown(tmp_path):
    write_card(tmp_path / "card.md", {}, make())
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "Licence of the data: unknown." in text
    assert "## Make it again" not in text


def test_a_card_says_how_reliable_the_model_is(tmp_path):
    trust = {"rejection": {"points": [{"wanted": 0.9, "coverage": 0.93, "accuracy": 0.86}]}}
    unknown = {"auroc": 0.972, "found": 0.74, "false_alarms": 0.02}
    changes = {"found": 0.92, "false_alarms": 0.04, "votes": None}
    scores = {**make(), **trust, "unknown": unknown, "changes": changes}
    write_card(tmp_path / "card.md", FACTS, scores)
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "| coverage where 90% is wanted | 0.930 |" in text
    assert "| simulated changes found within 3 lines | 0.920 |" in text
    assert "tip-change votes" not in text
    assert "called 74% unknown (and 2% of those it knows; AUROC 0.972)" in text
    write_card(tmp_path / "plain.md", FACTS, make())
    text = (tmp_path / "plain.md").read_text(encoding="utf-8")
    assert "Reliability" not in text
    assert "Of anything else it still names a class" in text


def test_an_existing_card_is_kept(tmp_path):
    (tmp_path / "card.md").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_card(tmp_path / "card.md", FACTS, make())
    assert (tmp_path / "card.md").read_text() == "mine"


def test_numbers_in_words():
    assert number(0.98765) == "0.988"
    assert number(None) == number(float("nan")) == "–"
    assert bounds([0.1, 0.25]) == "[0.100, 0.250]"
    assert bounds(None) == ""
    assert fact({"a": 1, "b": [2, None]}) == "a 1, b 2, unknown"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_explained(name):
    title, meaning = protocol(name.upper())
    assert title.startswith(name.upper())
    assert meaning in caveats(make(), name)[0]


def test_an_unknown_protocol_is_named():
    assert protocol("all scans") == ("all scans", "")
    assert protocol(None) == ("unknown", "")


def test_a_card_names_sources_licences_and_intervals_of_other_surfaces(tmp_path):
    many = np.array(["one", "many", "many", "many"])
    compared = Compared(
        below=np.array([[1.0, 0.5, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]]),
        known=np.array([30, 10]),
        alarms=np.array([0.0, 0.4]),
        found=np.array([1.0, 0.0, 0.0, 0.5]),
        source=many,
        kind=np.array(["hills", "hills", "steps", "steps"]),
    )
    unknown = {
        "false_alarms": 0.05,
        "measured": {"8": score_compared(compared), "128": score_compared(compared)},
        "taught_by": {
            "one": {"licence": "GPL-3.0", "scans": 1},
            "many": {"licence": "", "scans": 3},
        },
        "apart": {"unclear": {"scans": 4, "found": 0.5}},
    }
    write_card(tmp_path / "card.md", FACTS, make(), model={"unknown": unknown})
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "4 real scans of 2 sources against 40 scans of 2 sessions" in text
    assert "| one | GPL-3.0 | 1 | 1.000 | 1.000 |" in text
    assert "unclear 50% of 4" in text
    assert "| 128 | 0.688 [" in text
    assert "fitted with 4 scans" in text
    assert "one (GPL-3.0, 1); many (no licence named, 3)" in text


def test_a_card_has_scores_first_and_facts_last(tmp_path):
    write_card(tmp_path / "card.md", FACTS, make())
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert (titles[0], titles[-1]) == ("Scores", "Facts")
    assert "\n\n\n" not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_a_card_says_where_its_model_stands_beside_raters(tmp_path):
    scores = {"balanced_accuracy": [0.8, 0.75, 0.9], "accuracy": None}
    less = {name: [0.001, -0.0125, 0.0225] for name in scores}
    row = {"n": 12.3, "certain": 9.0, "human": scores}
    compared = {**row, "model": scores, "difference": less}
    kinds = {"single-class": dict.fromkeys(("auroc", *scores), [0.9, 0.85, 0.9375])}
    ceiling = {"types": 7, "among": [6, 7], "scores": kinds, "range": kinds, "scans": 30}
    human = {
        "raters": {"pairs": row, "mixed": row},
        "ceiling": {**ceiling, "pairs": dict.fromkeys(scores, 0.625)},
        "label_rule": None,
        "models": {"vit": {"beside": {"pairs": compared, "mixed": compared}}},
    }
    write_card(tmp_path / "card.md", FACTS, make(), human=human)
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "\n## Beside human raters\n" in text
    assert (
        "| two raters, one class each | a human rater | 12 | 0.800 [0.750, 0.900] | – |"
        in text
    )
    assert "vit less human, paired | 12 | +0.001 [-0.013, +0.022] |" in text
    sentence = "at a human rater; neither above nor below can be shown"
    assert f"\n`vit` is **{sentence}**.\n" in text
    assert "which of 7 types it is of" in text
    assert "| single-class | 0.900 [0.850, 0.938] |" in text
    write_card(tmp_path / "plain.md", FACTS, make())
    assert "human" not in (tmp_path / "plain.md").read_text(encoding="utf-8")
