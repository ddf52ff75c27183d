"""Draw the score of the shipped model's recipe against lines seen: docs/pictures/lines.png.

    python benchmarks/lines.py -o docs/pictures/lines.png

The numbers are those of benchmarks/results.json, on real scans, as docs/results.md has them.
The paper's are of scans that all raters agree on, split scan by scan (P1), so these are of
full-agreement scans, too: under P1 as the paper, and under P2, on days that no model saw.
"""

import argparse
import json
from pathlib import Path

from stm_keras.evaluation.plots import plot_lines
from stm_keras.evaluation.style import figure_png
from stm_keras.files import atomic

RESULTS = Path(__file__).parent / "results.json"
CURVES = {  # label: configs that have been scored so, the shipped recipe first; protocol
    "shipped recipe, days never seen (P2)": (("sequential", "sequential+one"), "p2"),
    "shipped recipe, scan by scan (P1)": (("sequential", "sequential+one"), "p1"),
}


def curves(rows: list) -> dict:
    """Return label → list of scores by lines, of the rows of benchmarks/results.json."""
    scored = {
        (row["config"], row["protocol"]): row["full agreement"]
        for row in rows
        if "full agreement" in row  # raters have a row of their own
    }
    found = {}
    for label, (configs, protocol) in CURVES.items():
        config = next(each for each in configs if (each, protocol) in scored)
        found[label] = scored[config, protocol]["by_lines"]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", default="lines.png")
    output = parser.parse_args().output
    figure = plot_lines(curves(json.loads(RESULTS.read_text(encoding="utf-8"))))
    with atomic(output, overwrite=True) as temporary:
        temporary.write_bytes(figure_png(figure))
