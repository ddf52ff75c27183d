"""Time the training step of the full ViT on each backend and in plain PyTorch.

    python benchmarks/step_time.py --page benchmarks/README.md

Every side is a process of its own and stays alive; the rounds go from one to the next, so
that other work on the machine hits them all alike. All of them together take about 15 GB;
`--only` chooses some.
"""

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from step_table import page, put_section, summarise, table

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = 4_806_404
REFERENCE = "native"
SIDES = {
    "native": {"backend": "native"},
    "native-masked": {"backend": "native", "masked": True},
    "native-compiled": {"backend": "native", "compiled": True},
    "tensorflow": {"backend": "tensorflow"},
    "tensorflow-xla": {"backend": "tensorflow", "jit": "true"},
    "jax": {"backend": "jax"},
    "torch": {"backend": "torch"},
    "torch-compiled": {"backend": "torch", "jit": "true"},
}
USUAL = tuple(
    name for name in SIDES if name != "torch-compiled"
)  # it takes minutes to start


class Side:
    """A worker process, until it is closed.

    Args:
        name: str. Key of `SIDES`.
        arguments: The command line.
    """

    def __init__(self, name, arguments):
        self.name = name
        self.arguments = arguments
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in `close`
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("step_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def close(self):
        """End the worker."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.log.close()

    def ask(self, what, **order):
        """Let the worker do something and return its answer, a dict.

        Raises:
            RuntimeError: It failed; the message is the last line it wrote, or the
                number of the signal that ended it.
        """
        with contextlib.suppress(BrokenPipeError):  # what it died of is in its log
            print(json.dumps({"do": what, **order}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            code = self.process.wait()
            lines = self.log.read().strip().splitlines() if code > 0 else []
            raise RuntimeError(
                f"{self.name}: {lines[-1] if lines else f'ended by {-code}'}"
            )
        return json.loads(answer)

    def start(self):
        """Build the network and do the first step."""
        spec = SIDES[self.name]
        settings = [
            f"train.batch_size={self.arguments.batch}",
            f"train.precision={self.arguments.precision}",
            f"train.jit_compile={spec.get('jit', 'auto')}",
        ]
        built = self.ask(
            "start",
            config=str(ROOT / "configs" / "vit.toml"),
            settings=settings,
            backend=spec["backend"],
            masked=spec.get("masked", False),
            compiled=spec.get("compiled", False),
            cores=self.arguments.cores,
        )
        if built["parameters"] != WEIGHTS:
            raise RuntimeError(
                f"{self.name}: {built['parameters']} weights, not {WEIGHTS}."
            )
        first = self.ask("steps", count=1)
        return {**built, "first": first["wall"], "first_cpu": first["cpu"], "rounds": []}


def main(argv=None):
    """Measure, print the table, and write what was asked for."""
    arguments = parse(argv)
    load = [os.getloadavg()[0]]
    results, failures = measure(arguments)
    if REFERENCE not in results or any(not each.pop("whole") for each in results.values()):
        print("\n".join(["The run is not whole:", *failures]), file=sys.stderr)
        return 1
    load.append(os.getloadavg()[0])
    report = {
        "command": shlex.join(
            ["python", "benchmarks/step_time.py", *(argv or sys.argv[1:])]
        ),
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_used": arguments.cores or os.cpu_count(),
        "load": load,
        "precision": arguments.precision,
        "batch": arguments.batch,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "epoch": arguments.epoch,
        "failures": failures,
        "sides": summarise(results, REFERENCE, arguments.batch),
    }
    print(table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.page:
        text = arguments.page.read_text() if arguments.page.exists() else ""
        section = page(report)
        arguments.page.write_text(put_section(text, arguments.title, section))
    return 0


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=6, help="rounds over all sides")
    parser.add_argument("--steps", type=int, default=2, help="steps of a side in a round")
    parser.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16"), default="float32"
    )
    parser.add_argument("--only", nargs="+", choices=SIDES, default=USUAL)
    parser.add_argument("--cores", type=int, default=0, help="pin to so many cores (Linux)")
    parser.add_argument(
        "--epoch", type=int, default=16, help="batches of a real epoch, or 0"
    )
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--page", type=Path, help="put the table into this Markdown page")
    parser.add_argument(
        "--title", default="Training step", help="of the section in the page"
    )
    arguments = parser.parse_args(argv)
    if REFERENCE not in arguments.only:
        parser.error(f"`--only` needs {REFERENCE}, which the others are compared with.")
    return arguments


def measure(arguments):
    """Start the sides one after the other, then go round them.

    Args:
        arguments: The command line.

    Returns:
        Tuple of a dict of side to what was measured, `whole` unless it failed after its
        first step, and a list of what went wrong.
    """
    sides, results, failures = {}, {}, []

    def attempt(name, what, **order):
        try:
            return (
                sides[name].start() if what == "start" else sides[name].ask(what, **order)
            )
        except RuntimeError as error:
            failures.append(str(error))
            sides.pop(name).close()
            return None

    try:
        for name in arguments.only:
            module = SIDES[name]["backend"].replace("native", "torch")
            if find_spec(module) is None:
                failures.append(f"{name}: {module} is not installed.")
                continue
            sides[name] = Side(name, arguments)
            started = attempt(name, "start")
            if started is not None:
                results[name] = {**started, "whole": False}
                print(f"{name}: first step {started['first']:.1f} s", file=sys.stderr)
        for _ in range(arguments.repeats):
            for name in list(sides):
                answer = attempt(name, "steps", count=arguments.steps)
                results[name]["rounds"].append(answer)
        for name in list(sides):
            if arguments.epoch and SIDES[name]["backend"] != "native":
                results[name]["epoch"] = attempt(name, "epoch", count=arguments.epoch)
        for name in sides:
            results[name]["whole"] = True
    finally:
        for side in sides.values():
            side.close()
    return results, failures


def processor():
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = [
        line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else "unknown processor"


if __name__ == "__main__":
    sys.exit(main())
