"""`stm-keras label`: the page on which scans are labelled, and what comes of it."""

import getpass
import os
import signal
import threading
from contextlib import ExitStack, suppress
from itertools import chain, count
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.cli.label_results import FOLDER, agreement, export
from stm_keras.cli.pages import load_any, open_server, page_options, show_page
from stm_keras.errors import InputError, UsageError
from stm_keras.evaluation.text import counted
from stm_keras.files import check_folder
from stm_keras.progress import progress
from stm_keras.terminal import shell

PAGE = "page"
MADE = "own{}.h5"  # the dataset that may be made next


class Labels(click.Group):
    """Takes what is no command of its own for scans that are to be labelled."""

    def resolve_command(self, ctx, args):
        """Find the command of a word."""
        if args and args[0] not in self.commands:
            args = [PAGE, *args]
        return super().resolve_command(ctx, args)

    def format_help(self, ctx, formatter):
        """Write the help of the page, and name the other commands."""
        page = self.commands[PAGE]
        page.format_help(
            click.Context(page, parent=ctx.parent, info_name="label"), formatter
        )
        others = [each for each in self.commands.values() if not each.hidden]
        if others:
            with formatter.section("Commands"):
                formatter.write_dl(
                    [(each.name, each.get_short_help_str()) for each in others]
                )

    def parse_args(self, ctx, args):
        """Have options in front of the first path be those of the page."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = [PAGE, *args]
        return super().parse_args(ctx, args)


@click.group(cls=Labels)
def label():
    """Label scans of your own on a page in the browser."""


label.add_command(agreement)
label.add_command(export)


@label.command(PAGE, hidden=True)
@click.argument("paths", nargs=-1, required=True, type=options.PATH)
@click.option("--rater", help="Your name. Default: that of your account.")
@click.option(
    "--classes",
    metavar="A,B,...",
    help="Marks to set: names, or a TOML file. Default: those of Gordon et al. 2020.",
)
@options.path(
    "--records", default=FOLDER, show_default=True, help="Folder of what raters say."
)
@click.option(
    "--unsure-first",
    is_flag=True,
    help="Every other picture is the one of which the model is least certain.",
)
@click.option("--show-model", is_flag=True, help="Show the verdict; noted with each label.")
@click.option(
    "--model", type=options.PATH, help="Model of these two. Default: the shipped one."
)
@page_options(8766)
def page(paths, rater, classes, records, unsure_first, show_model, model, **chosen):
    """Label scans of your own on a page in the browser.

    Scans are shown one after the other, and what you say of each is written down.
    PATHS are scans, folders of them, datasets, all that `predict` reads, and logs of
    `watch`, of which the scans are shown that somebody disagreed with. Digits set marks, Enter
    saves and shows the next picture, Backspace goes back, ? is "not sure", c says where in the
    scan another tip begins. Each rater has an order of their own; every 20th picture comes again.
    What is saved is on the disk; Ctrl-C ends it, the same command goes on (docs/label.md).

    \b
        stm-keras label scans/ --rater Ada
        stm-keras label scans/ --classes sharp,double,blunt
        stm-keras label live/2026-11-29-stm-pc.jsonl --classes marks.toml
    """
    from stm_keras.inference.find_files import LeftOut, find_files
    from stm_keras.labelling.desk import Desk
    from stm_keras.labelling.logs import scans_of_logs
    from stm_keras.labelling.marks import read_marks
    from stm_keras.labelling.pile import Pile, sitting
    from stm_keras.labelling.rater_file import RaterFile

    marks = read_marks(classes)
    if model is not None and not (unsure_first or show_model):
        raise UsageError("`--model`: is asked by --unsure-first or --show-model. Add one.")
    with ExitStack() as stack:
        server = open_server(stack, chosen)
        file = stack.enter_context(
            RaterFile(records, getpass.getuser() if rater is None else rater)
        )
        left_out = LeftOut()
        files = list(find_files(scans_of_logs(paths), left_out=left_out))
        judge = _judge(model, len(files)) if unsure_first or show_model else None
        doing = "judging scans" if judge else "reading scans"
        show = progress(doing)
        done = count(1)
        pile = Pile(
            files, check_folder(records), lambda path: show(next(done), len(files)), judge
        )
        stack.callback(pile.close)
        if not pile.cards and len(pile.errors) == 1:
            raise pile.errors[0]
        for error in pile.errors:
            options.report(error, 0)
        if not pile.cards:
            named = " ".join(map(str, paths))
            raise InputError(f"{named}: holds no scan that can be labelled.")
        if text := left_out.text():
            options.say(text)
        certainty = verdicts = None
        if unsure_first:
            certainty = [each.get("confidence") or 0.0 for each in pile.verdicts]
        if show_model:
            verdicts = [_words(each) for each in pile.verdicts]
        order = sitting(pile.cards, file.rater, certainty)
        desk = Desk(pile, file, marks, order, verdicts)
        from stm_keras.web.label_page import serve

        serve(server, desk)
        if desk.renewed:
            options.say(
                f"{counted(desk.renewed, 'label')} of {file.rater} with marks that are not among "
                f"those of now ({', '.join(desk.other_marks)}): these pictures come again."
            )
        options.say(
            f"{counted(len(pile.cards), 'scan')}, {_progress(desk)}. Labels are written to "
            f"{file.path}. Ctrl-C ends it."
        )
        show_page(server, chosen)
        _wait()
        done = desk.progress()["done"]
        command = _export(paths, pile.cards, records, classes and desk.marks)
        options.say(f"{_progress(desk)}." + (f" Next: {command}" if done else ""))


def _progress(desk):
    """Say how many pictures are labelled; those that come again count once more."""
    progress = desk.progress()
    done, total = progress["done"], counted(progress["total"], "picture")
    return f"{progress['rater']} has labelled {done} of {total}"


def _export(paths, cards, records, marks):
    """Return the command that makes a dataset of what was labelled, as it can be pasted."""
    source = paths[0]
    if len(paths) > 1 or source.suffix == ".jsonl":  # which is a log of scans
        folders = {card.path.resolve().parent for card in cards}
        source = Path(os.path.commonpath(folders))
    names = (MADE.format(number) for number in chain([""], count(2)))
    words = ["stm-keras", "label", "export", str(source)]
    words += ["-o", next(name for name in names if not Path(name).exists())]
    words += ["--records", str(records)] if records != Path(FOLDER) else []
    words += ["--classes", ",".join(mark.name for mark in marks)] if marks else []
    return shell(words)


def _judge(model, count):
    """Return a callable that judges a `Scan` by a model; say that this takes a while."""
    from stm_keras.inference.judge import verdict_of

    options.say(f"Scans of {counted(count, 'file')} are being judged. Then the page comes.")
    _, predictor = load_any(model)
    return lambda scan: verdict_of(predictor, scan if scan.unit else scan.lines())


def _words(verdict):
    """Say a verdict in few words: `rows 93 %`."""
    text, p = verdict["verdict"], verdict["confidence"]
    return f"{text} {100 * p:.0f} %" if text == verdict["class"] else text


def _wait():
    """Wait for Ctrl-C, or for what closes the window on Windows."""
    ended = threading.Event()
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = {each: signal.signal(each, lambda *_: ended.set()) for each in numbers}
    try:
        while not ended.wait(0.5):  # in steps, so that Windows hears Ctrl-C
            pass
    finally:
        for number, before in former.items():
            with suppress(ValueError):
                signal.signal(number, before)
