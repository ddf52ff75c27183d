"""Find scans and what is said of them: in a table, by folders named as classes, in records."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stm_keras.data.label_records import (
    latest_records,
    marks_set,
    merge_ratings,
    read_records,
)
from stm_keras.data.label_table import (
    class_names,
    find_table,
    names_scans,
    read_rows,
    read_votes,
)
from stm_keras.data.load import sniff
from stm_keras.data.raw import listed
from stm_keras.data.shard_index import is_sharded
from stm_keras.data.validate import canonical
from stm_keras.errors import DatasetError, InputError, StmKerasError, UsageError
from stm_keras.inference.find_files import InputFile, LeftOut, find_files
from stm_keras.inference.scan_input import ScanInput

RECORDS = "labels"  # the folder beside scans that has the records of raters
ABOUT = ("session", "campaign", "run", "name")  # columns of a table


@dataclass(frozen=True)
class Label:
    """What is said of one scan."""

    votes: np.ndarray  # (classes,): share of raters who marked each
    place: str  # where it is said, for messages
    raters: int = 1  # how many they are
    # First line of the scan, in the order of acquisition, with another tip; -1 without one, None
    # where nobody looked.
    change_line: int | None = None
    weight: float | None = None
    model_shown: bool | None = None  # whether to a rater, None where nobody says
    about: dict = field(default_factory=dict)  # those of `ABOUT` that are given


@dataclass(frozen=True)
class LabelledFiles:
    """Files with scans, and the labels of these."""

    source: Path  # that the user named
    classes: tuple[str, ...]
    files: list[InputFile]
    labels: dict  # to `Label`, of what `keys_of` gives for its scan
    root: Path  # from which names of scans are seen
    skipped: int = 0  # folders below the root that do not tell the session of their scans
    by_hash: bool = False  # whether labels belong to heights, wherever their file lies
    voted: bool = False  # whether raters voted; else each scan has one class
    unlabelled: int = 0  # files without a label, which are not among `files`
    errors: list[StmKerasError] = field(default_factory=list)  # of labels without a scan
    notes: list[str] = field(default_factory=list)  # what else the user should know
    left_out: LeftOut = field(default_factory=LeftOut)  # files that are not scans

    def keys_of(self, scan: ScanInput) -> tuple:
        """Return by what the label of a scan may be known."""
        if self.by_hash:
            return (scan.hash,)
        return (_key(scan.path), scan.index), (_key(scan.path), None)

    def name_of(self, path: Path) -> str:
        """Return the name of a scan's file: its path, seen from the root."""
        return path.relative_to(self.root).as_posix() if self._below(path) else path.name

    def folder_of(self, path: Path) -> str:
        """Return the folder of a file, "" where it lies in none of its own."""
        if not self._below(path):
            return path.parent.name
        return "/".join(path.relative_to(self.root).parts[self.skipped : -1])

    def _below(self, path):
        return path.is_relative_to(self.root)


def find_labels(
    source: Path,
    records: Path | None = None,
    classes: tuple | None = None,
    no_model_shown: bool = False,
) -> LabelledFiles | None:
    """Find the scans that a user means, and their labels; None where `source` is a dataset.

    Args:
        source: Folder of scans, or a table of them.
        records: Folder of the records of raters, or one such file. None is `labels` in the
            folder of scans, or here, where `stm-keras label` writes them, if they are of these
            scans.
        classes: All classes; None as for `class_names`.
        no_model_shown: Whether to leave out what raters said who were shown the verdict of a
            model.

    Raises:
        DatasetError: The labels make no sense.
        UsageError: There are two kinds of labels, or none that tell whether a model was shown.
    """
    table = _table_of(source)
    if records is None and any((source / RECORDS).glob("*.jsonl")):
        records = source / RECORDS
        if table is not None:
            raise UsageError(
                f"{source}: has a table of labels and records of raters. Give `--records "
                f"{records}`, or the table alone: {table}."
            )
    if records is None and table is None and _are_of(source, read_here := Path(RECORDS)):
        records = read_here
    if records is not None:
        return _by_records(source, records, classes, no_model_shown)
    if no_model_shown:
        raise UsageError(
            "`--no-model-shown`: only records of `stm-keras label` tell that. Leave it out, or "
            "give --records."
        )
    if table is not None:
        return _by_table(source, table, classes) if names_scans(table) else None
    if source.is_dir() and not is_sharded(source) and not (source / "config.toml").exists():
        return _by_folders(source, classes)
    return None


def _are_of(source, folder):
    """Tell whether a folder holds records of scans in the folder `source`."""
    if not source.is_dir() or not any(folder.glob("*.jsonl")):
        return False
    places = (Path(_key(Path(each.path))) for each in read_records(folder)[0])
    return any(place.is_relative_to(_key(source)) for place in places)


def _table_of(source):
    try:
        table = find_table(source) if source.is_dir() else source
        return table if sniff(table) == "table" else None
    except StmKerasError:  # which `load_dataset` says
        return None


def _by_table(source, path, classes):
    table = read_rows(path)
    classes, votes, voted, errors = read_votes(table, classes)
    rows: dict[tuple, list] = {}  # of each scan
    files: dict[str, InputFile] = {}
    for row, file in enumerate(table.columns["file"]):
        key, index = _key(path.parent / file), table.number("index", row, -1)
        files.setdefault(key, InputFile(path.parent / file))
        rows.setdefault((key, None if index < 0 else index), []).append(row)
    labels = {}
    for (key, index), same in rows.items():
        file = files[key].path
        places = table.where(same[0])
        raters = [table.cell("rater", row) for row in same]
        if not file.is_file():
            hint = " Write / between folders." if "\\" in str(file) else ""
            errors.append(InputError(f"{places}: there is no file {file}.{hint}"))
        elif len(set(raters)) < len(raters):
            numbers = " and ".join(str(table.numbers[row]) for row in same)
            errors.append(
                DatasetError(
                    f"{path}: lines {numbers} label {file} twice. Keep one line for each scan and "
                    "`rater`."
                )
            )
        elif not np.isnan(votes[same]).any():
            changes = [int(table.number("change line", row, -1)) for row in same]
            merged, change_line = merge_ratings(votes[same], changes)
            weight = table.number("weight", same[0], 1.0)
            counted = int(table.number("raters", same[0], len(same)))
            labels[key, index] = Label(
                votes=merged,
                place=places,
                raters=counted,
                change_line=change_line if "change line" in table.columns else None,
                weight=weight if "weight" in table.columns else None,
                about={name: table.cell(name, same[0]) for name in ABOUT},
            )
    wanted = {key for key, _ in labels}
    return LabelledFiles(
        source=source,
        classes=classes,
        files=[file for key, file in files.items() if key in wanted],
        labels=labels,
        root=path.parent,
        voted=voted or "rater" in table.columns,
        errors=errors,
    )


def _by_folders(source, classes):
    left_out = LeftOut()
    found = list(find_files([source], left_out=left_out))
    names = {file: file.path.relative_to(source).parts[:-1] for file in found}
    places = {each[0]: str(source / each[0]) for each in names.values() if each}
    if not places:
        for file in found:
            if file.error is not None:  # there is nothing but spectra, say
                raise file.error
        return None
    classes = class_names(source, places, classes)
    errors, votes = _one_hot(places, classes)
    files = [file for file in found if file.error or names[file]]
    files = [file for file in files if not names[file] or names[file][0] in votes]
    return LabelledFiles(
        source=source,
        classes=classes,
        files=files,
        labels={
            (_key(file.path), None): Label(votes[names[file][0]], str(file.path))
            for file in files
            if names[file]
        },
        root=source,
        skipped=1,
        errors=errors,
        unlabelled=sum(not names[file] and not file.error for file in found),
        left_out=left_out,
    )


def _one_hot(places, classes):
    """Return an error for each name that is no class, and the votes that the others mean."""
    index = {canonical(name): number for number, name in enumerate(classes)}
    errors = [
        DatasetError(
            f"{place}: {name!r} is not a class. The classes are {listed(classes)}."
        )
        for name, place in places.items()
        if canonical(name) not in index
    ]
    known = {name: index.get(canonical(name)) for name in places}
    return errors, {n: np.eye(len(index))[i] for n, i in known.items() if i is not None}


def _by_records(source, folder, classes, no_model_shown):
    records, skipped = read_records(folder)
    shown = sum(record.model_shown for record in records)
    if no_model_shown:
        records = [record for record in records if not record.model_shown]
    latest = latest_records(records)
    places = marks_set(records)
    offered = all(each.choices for each in records)
    classes = class_names(folder, places, classes, offered)
    errors, known = _one_hot(places, classes)
    labels: dict[str, Label] = {}
    dropped, others = 0, Counter()
    for scan, all_of_it in latest.items():
        same = [each for each in all_of_it if known.keys() >= set(each.marks)]
        dropped += len(all_of_it) - len(same)
        others.update(
            mark for each in all_of_it for mark in each.marks if mark not in known
        )
        if not same:
            continue
        changes = [each.change_line for each in same]
        votes, change_line = merge_ratings([each.votes(classes) for each in same], changes)
        index = "" if same[0].index is None else f" [{same[0].index}]"
        place = f"{same[0].place}: {same[0].path}{index}"
        labels[scan] = Label(
            votes=votes,
            place=place,
            raters=len(same),
            change_line=change_line,
            model_shown=any(each.model_shown for each in same),
        )
    notes = [f"Labels are those of {folder}."] if folder == Path(RECORDS) else []
    if skipped:
        notes.append(
            f"Lines of {folder} that are not records, and were left out: {skipped}."
        )
    if dropped:
        named = ", ".join(f"{mark} {count}" for mark, count in others.most_common())
        notes.append(
            f"Records that were left out, as they have marks that are not classes ({named}): "
            f"{dropped}."
        )
    if shown and no_model_shown:
        notes.append(
            f"Records that were left out, as their rater saw the verdict of a model: {shown}."
        )
    left_out = LeftOut()
    files = [
        file for file in find_files([source], left_out=left_out) if file.path != folder
    ]
    for path in [each for each in left_out.files if each.is_relative_to(folder)]:
        del left_out.files[path]
    return LabelledFiles(
        source=source,
        classes=classes,
        files=files,
        labels=labels,
        root=source if source.is_dir() else source.parent,
        by_hash=True,
        voted=True,
        errors=errors,
        notes=notes,
        left_out=left_out,
    )


def _key(path: Path) -> str:
    """Return what names a file, however it is written."""
    return os.path.normcase(os.path.realpath(path))
