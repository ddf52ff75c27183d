import json
import re

import numpy as np

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.summary import summary, summary_text


def made_up(**more):
    images = np.random.default_rng(0).integers(3, 200, (6, 8, 10)).astype("uint8")
    labels = np.array([0, 0, 1, 3, 3, -1])
    lines = np.array([8, 8, 8, 8, 2, 8])
    return Dataset(images=images, labels=labels, classes=CLASSES, lines=lines, **more)


def test_a_summary_counts_what_there_is():
    facts = summary(
        made_up(
            session=np.array(["a", "a", "b", "b", "b", "b"]),
            raters=np.array([1, 2, 2, 1, 1, 1]),
            unanimous=np.array([True, True, False, True, True, False]),
            change_line=np.array([-1, 3, -1, -1, 0, -1]),
        )
    )
    assert facts["scans"] == 6
    assert facts["shape"] == [8, 10]
    assert facts["classes"]["generic defects"] == {"scans": 2, "complete": 1}
    assert facts["classes"]["rows"] == {"scans": 0, "complete": 0}
    assert facts["no_single_class"] == 1
    assert facts["aborted"] == 1
    assert facts["sessions"] == {"a": 2, "b": 4}
    assert facts["campaigns"] is None
    assert facts["raters"] == {"1": 4, "2": 2}
    assert facts["full_agreement"] == 3
    assert facts["consensus"] == 1
    assert facts["tip_changes"] == 2
    assert facts["heights"] == [3, 199]
    json.dumps(facts, allow_nan=False)


def test_silence_is_said_so():
    facts = summary(made_up())
    for key in ("sessions", "raters", "consensus", "tip_changes"):
        assert facts[key] is None
    text = summary_text(facts)
    assert "not named: a split goes by duplicates" in text
    assert re.search(r"individual atoms +2 scans, 2 of them complete", text)


def test_the_text_names_campaigns_and_many_sessions():
    sessions = np.array(
        [f"2015Sep{20 + i}-100000" for i in range(3)] + ["2014Dec15-145157"] * 3
    )
    text = summary_text(summary(made_up(session=sessions)))
    assert "2014 - Feb 2015 (3), Sep 2015 (3)" in text
    names = np.array(list("abcdefg"))
    facts = {**summary(made_up()), "sessions": {n: i + 1 for i, n in enumerate(names)}}
    assert "7, of 1 to 7 scans" in summary_text(facts)
