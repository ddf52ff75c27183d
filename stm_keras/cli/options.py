"""Options that several commands share."""

import re
import warnings
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path

import click

from stm_keras.backend import BACKENDS, check_device, import_keras, use_backend
from stm_keras.progress import is_quiet, showing, stage
from stm_keras.terminal import shell


class FilePath(click.Path):
    """A path; an empty one, of a shell variable that is not set, would mean "here"."""

    def convert(self, value, param, ctx):
        if not str(value):
            self.fail("The path is empty.", param, ctx)
        return super().convert(value, param, ctx)


class ConfigPath(FilePath):
    """The path of a config, or the name of one that comes with stm-keras."""

    def convert(self, value, param, ctx):
        from stm_keras.config import find_config  # pydantic takes a tenth of a second

        path = super().convert(value, param, ctx)
        return path if (path / "sweep.json").is_file() else find_config(path)


class Ports(click.ParamType):
    """Two ports, by comma."""

    name = "A,B"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        words = value.split(",")
        if len(words) != 2 or not all(w.isdecimal() and 0 < int(w) < 65536 for w in words):
            self.fail(f"Two ports, such as 6503,6504. Received: {value!r}.", param, ctx)
        return tuple(map(int, words))


PATH = FilePath(path_type=Path)
CONFIG = ConfigPath(path_type=Path)
path = partial(click.option, type=PATH)
count = partial(click.option, type=click.IntRange(1))
size = click.option(
    "--size",
    type=click.IntRange(
        32, 512
    ),  # `stm_keras.data.dataset.SIZES`, which takes long to import
    help="Lines of a scan and pixels of a line. [128]",
)

data = click.option(
    "--data",
    "data",
    type=PATH,
    required=True,
    help="Dataset: HDF5, NPZ, MAT, shards or pictures.",
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace an existing result.")
verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Say more: the time of each step, every warning, files of folders left out.",
)
quiet = click.option(
    "-q", "--quiet", is_flag=True, help="No progress: results and errors alone."
)
trust_code = click.option(
    "--trust-code",
    is_flag=True,
    help="Run the Python file that made the network of a run, for layers of your own in it.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


def keras_options(command):
    """Add --backend and --device, and set them up before the command imports keras."""
    backend = click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        callback=_note("backend"),
        expose_value=False,
        help="Keras backend. Default: KERAS_BACKEND, else the first installed.",
    )
    device = click.option(
        "--device",
        metavar="cpu|gpu|gpu:N",
        callback=_note("device"),
        expose_value=False,
        help="Where to compute. Default: what the backend finds.",
    )
    return backend(device(command))


def choose_backend():
    """Set backend and device by this command's options, without keras; return the backend."""
    chosen = click.get_current_context().meta
    return use_backend(chosen.get("stm_keras.backend"), chosen.get("stm_keras.device"))


def load_keras(then=lambda: None, tensorflow=False):
    """Import keras with the backend and device of this command's options.

    `then` does what must be done before any device is used, and its result is returned;
    `tensorflow` says that it is needed beside another backend.
    """
    choose_backend()
    stage("loading Keras")
    import_keras(tensorflow)
    result = then()
    check_device(click.get_current_context().meta.get("stm_keras.device"))
    return result


def report(error, code):
    """Print an error that does not end the batch; return the larger exit code."""
    click.echo("Error: " + " ".join(str(error).split()), err=True)
    return max(code, error.exit_code)


def say_left_out(left_out, listed):
    """Say how many files of folders were left out, and name each if `listed`."""
    text = left_out.text("" if listed else " (--verbose lists them)")
    if text:
        say(text)
    for line in left_out.lines() if listed else ():
        say(f"  {line}")


@contextmanager
def summed_warnings(listed):
    """Say each kind of warning once, at the end, with how many there are; if listed, each at once.

    Two are of a kind that differ in nothing but their file and numbers.
    """
    show, kinds = warnings.showwarning, {}

    def keep(message, *where, **more):
        text = " ".join(str(message).split())
        kind = re.sub(r"\d+(\.\d+)?", "#", text.partition(": ")[2] or text)
        kinds.setdefault(kind, []).append(text)

    if not listed:
        warnings.showwarning = keep
    try:
        yield
    finally:
        warnings.showwarning = show
        for text, *others in kinds.values():
            if others:
                text += f" And {len(others)} more like it (--verbose lists them)."
            show(text, UserWarning, "", 0)


def say(text):
    """Print a message on stderr, unless `-q` asks for results and errors alone."""
    if not is_quiet():
        click.echo(text, err=True)


def say_next(report=None, model=None, command=None):
    """Print last lines that name what was written, and the command that comes next."""
    for name, value in (("Report", report), ("Model", model), ("Next", command)):
        if value is not None:
            say(f"{name}: {shell(value) if isinstance(value, list) else value}")


def with_progress(command):
    """Give a command -q and -v, and show its progress while it runs."""
    names = {each.name for each in command.params}
    if "quiet" in names:
        return command
    run, own = command.callback, "verbose" in names

    @wraps(run)
    def shown(*arguments, quiet, **given):
        timed = given["verbose"] if own else given.pop("verbose")
        with showing(command.name, quiet, timed):
            return run(*arguments, **given)

    for add in (quiet,) if own else (quiet, verbose):
        shown = add(shown)
    command.callback = shown
    command.params += reversed(shown.__click_params__[-1 if own else -2 :])
    return command


def _note(name):
    def callback(ctx, param, value):
        ctx.meta[f"stm_keras.{name}"] = value

    return callback
