"""What a card and docs/results.md say of real scans of other surfaces, in Markdown."""

from stm_keras.evaluation.text import bounds, number

HELD_OUT = (
    "No model was asked of a session or a source that it learnt from, and no threshold is of "
    "them (nested cross-fitting: parts of sessions times parts of sources)."
)
NEVER_SEEN = "The model learnt from no real scan."
ALIKE = (
    "Each source weighs alike; brackets are 95 % intervals that draw sources and sessions "
    "anew. Pixels alone: no size, channel or name."
)


def surface_section(unknown: dict) -> list[str]:
    """Tell how real scans of other surfaces were told from the known one.

    Args:
        unknown: dict, `unknown` of a model file, with `measured`.

    Returns:
        list of str, paragraphs and tables of Markdown.
    """
    measured = unknown["measured"]
    last = measured[max(measured, key=int)]
    how = HELD_OUT if unknown.get("taught_by") else NEVER_SEEN
    parts = [
        (
            f"{last['scans']} real scans of {last['sources']} sources against "
            f"{last['known']} scans of {last['sessions']} sessions, asked for "
            f"{unknown['false_alarms']:.0%} false alarms. {how} {ALIKE}"
        ),
        _table(
            ["lines seen", "AUROC", "called unknown", "false alarms"],
            [
                [lines, *(_cell(scores, key) for key in ("auroc", "found", "false_alarms"))]
                for lines, scores in sorted(measured.items(), key=lambda row: int(row[0]))
            ],
        ),
        _table(
            ["kind", "scans", "sources", "AUROC", "called unknown"],
            [
                [
                    kind,
                    *(scores[k] for k in ("scans", "sources")),
                    *(number(scores[k]) for k in ("auroc", "found")),
                ]
                for kind, scores in last["by_kind"].items()
            ],
        ),
        _table(
            ["source", "licence", "scans", "AUROC", "called unknown"],
            [
                [
                    source,
                    _licence(unknown, source),
                    scores["scans"],
                    *(number(scores[k]) for k in ("auroc", "found")),
                ]
                for source, scores in last["by_source"].items()
            ],
        ),
    ]
    if unknown.get("apart"):
        told = ", ".join(
            f"{kind} {row['found']:.0%} of {row['scans']}"
            for kind, row in unknown["apart"].items()
        )
        parts.append(f"Apart, and in none of these numbers, called unknown: {told}.")
    return parts


def licence_text(unknown: dict) -> str:
    """Name who the scans are of that taught what is unknown, and their licences."""
    taught = unknown["taught_by"]
    count = sum(row["scans"] for row in taught.values())
    sources = "; ".join(
        f"{name} ({row['licence'] or 'no licence named'}, {row['scans']})"
        for name, row in taught.items()
    )
    return (
        f"Weights of what says that a surface is unknown were fitted with {count} scans of "
        f"other surfaces from these repositories (licence of the repository, scans): {sources}. "
        "The scans are not part of this repository."
    )


def _licence(unknown, source):
    return unknown.get("taught_by", {}).get(source, {}).get("licence", "")


def _cell(scores, key):
    return f"{number(scores[key])} {bounds(scores['intervals'][key])}".rstrip()


def _table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(cell):
    """Write what a file says so that it stays in its cell."""
    return " ".join(str(cell).split()).replace("|", "/").replace("<", "&lt;")
