"""The `stm-keras` command: finds the commands, and turns errors into one line."""

import difflib
import os
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path

import click

from stm_keras import __version__
from stm_keras.cli import options
from stm_keras.errors import OutputError, StmKerasError
from stm_keras.signals import EXIT_CODE, INTERRUPTED, CtrlC, end_process
from stm_keras.terminal import Unwritten, standard_streams

UNREAD = 141  # as shells say of SIGPIPE: a reader such as `head` ended early
OURS = (StmKerasError, Unwritten, click.ClickException, click.exceptions.Exit, click.Abort)
NEAR = 0.75  # likeness from which on another name is proposed
TRACEBACK = "STM_KERAS_TRACEBACK"  # variable that shows an unforeseen error as it is
NO_MEMORY = (
    "The memory of this machine does not suffice. Close other programs, or give less."
)

COMMANDS = {
    "simulate": ("data", "Simulate labelled scans of H:Si(100)."),
    "convert": (
        "convert",
        "Turn scan files, arrays or pictures with labels into a dataset.",
    ),
    "info": ("data", "Show what a scan, a dataset, a model or a run holds."),
    "audit": ("data", "Look for leaks, duplicates and transposed lines."),
    "train": ("train", "Train a model as CONFIG says. Start again to resume."),
    "settings": (
        "settings",
        "List the settings of a config: key, default, type and meaning.",
    ),
    "adapt": ("adapt", "Adapt a model to a few labelled scans of your own."),
    "evaluate": ("evaluate", "Score a model on scans with known classes."),
    "analyze": ("analyze", "Show the epochs of one run, or compare several."),
    "watch": ("watch", "Judge the tip while the scan runs."),
    "connect": ("connect", "Save how a Nanonis controller behaves, for you to send."),
    "label": ("label", "Label scans of your own on a page in the browser."),
    "predict": ("predict", "Judge the tip on scans: verdict, class and confidence."),
    "models": ("export", "List the models that come with stm-keras."),
    "export": ("export", "Write a model as a file for others."),
    "benchmark": ("benchmark", "Train and score configs under P1, P2 and P3."),
    "compare": ("compare", "Train the same network on several backends, and compare."),
    "submit": ("submit", "Queue many runs of CONFIG on SLURM, or run them here."),
    "doctor": ("doctor", "Show versions, backends and devices, and what is missing."),
}


INTERACTIVE = ("watch", "label", "connect")  # wait for others, and show what comes
FORMER = {  # command to former names of options
    "adapt": {"--start": "--model"},
    "analyze": {"--csv": "--output"},
    "benchmark": {"--results": "--output", "--page": "--report"},
    "compare": {"--merge": "--join", "--repeats": "--rounds"},
    "submit": {"--concurrent": "--jobs"},
}


class OneLine(click.ClickException):
    """An error of ours as click shows it: one line on stderr and an exit code."""

    def __init__(self, error):
        super().__init__(" ".join(str(error).split()))
        self.exit_code = error.exit_code


class Commands(click.Group):
    """Imports a command when it is asked for: `--help` must not wait for Keras."""

    def __call__(self, *args, **kwargs):
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as end:
            if end.code in (INTERRUPTED, EXIT_CODE) and "tensorflow" in sys.modules:
                end_process(end.code)
            raise

    def main(self, *args, **kwargs):
        with standard_streams():
            try:
                return super().main(*args, **kwargs)
            except Unwritten as error:
                if not error.gone:
                    OneLine(OutputError(error)).show()
                sys.exit(UNREAD if error.gone else OutputError.exit_code)

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"stm_keras.cli.{module}"), cmd_name)
        return command if cmd_name in INTERACTIVE else options.with_progress(command)

    def resolve_command(self, ctx, args):
        name = str(args[0])
        near = difflib.get_close_matches(name, COMMANDS, 1, NEAR)
        if name not in COMMANDS and near:
            ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, list(_present_names(FORMER.get(name, {}), rest))

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx):
        # network file systems may have none, and Keras asks for them as well
        os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
        try:
            with warnings.catch_warnings(), CtrlC() as pressed:
                warnings.showwarning = _show_warning
                try:
                    return super().invoke(ctx)
                except Exception as error:
                    if pressed.came and not isinstance(error, OURS):
                        raise KeyboardInterrupt from None
                    raise
        except (
            click.NoSuchOption
        ) as error:  # of which click takes `--help` for near as well
            known = error.possibilities or ()
            error.possibilities = difflib.get_close_matches(
                error.option_name, known, 3, NEAR
            )
            raise
        except StmKerasError as error:
            raise OneLine(error) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except OSError as error:
            path = "" if error.filename is None else f"{error.filename}: "
            raise OneLine(OutputError(f"{path}{error.strerror or error}.")) from error
        except MemoryError as error:
            raise OneLine(StmKerasError(NO_MEMORY)) from error
        except Exception as error:
            if isinstance(error, OURS) or os.environ.get(TRACEBACK):
                raise
            raise OneLine(StmKerasError(_unforeseen(error))) from error


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 92,
        "color": True,  # click takes nothing out of a name: outlets show what it is
    },
)
@click.version_option(__version__, prog_name="stm-keras")
def main():
    """Judge the tip of a scanning tunnelling microscope from its scan lines.

    \b
        stm-keras train                            a small model on simulated scans
        stm-keras train vit --data scans.h5
        stm-keras predict runs/.../best.keras scans.h5
    """


def _present_names(former, words):
    """Yield words of a command with the present names of its options, and say so."""
    for word in words:
        option, equals, value = word.partition("=")
        present = former.get(option)
        if present is not None:
            options.say(f"`{option}` is now called `{present}`.")
        yield word if present is None else f"{present}{equals}{value}"


def _unforeseen(error):
    """Describe a mistake of ours, or a file made to cause one."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return (
        f"Unforeseen {type(error).__name__} at {where} ({str(error)[:300]}). This is a mistake "
        f"in stm-keras. Set {TRACEBACK}=1, try again, and report what is shown."
    )


def _show_warning(message, category, filename, lineno, file=None, line=None):
    options.say("Warning: " + " ".join(str(message).split()))
