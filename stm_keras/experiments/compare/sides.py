"""Which sides a comparison has: backends and their variants, and what they are measured against."""

from dataclasses import asdict, dataclass

from stm_keras.backend import BACKENDS
from stm_keras.errors import UsageError

REFERENCES = ("native", "native-unmasked", "timm")
PRECISIONS = ("float32", "mixed_bfloat16")
JITS = ("auto", "true", "false")
EAGER = "eager"
SHORT = {
    "float32": "",
    "mixed_bfloat16": "bf16",
    "auto": "",
    "true": "jit",
    "false": "no-jit",
}


@dataclass(frozen=True)
class Side:
    """One row of a comparison: a library, and how it computes.

    Args:
        library: str. A backend of Keras, or one of `REFERENCES`.
        precision: str. One of `PRECISIONS`.
        jit: str. One of `JITS`, as `train.jit_compile`; or "eager".
    """

    library: str
    precision: str = "float32"
    jit: str = "auto"

    @property
    def name(self):
        """What the row is called, such as "jax bf16"."""
        words = (self.library, SHORT[self.precision], SHORT.get(self.jit, self.jit))
        return " ".join(word for word in words if word)

    @property
    def slug(self):
        """The name as part of a file name."""
        return self.name.replace(" ", "-")

    @property
    def ours(self):
        """Whether it is a backend of Keras and not a reference."""
        return self.library in BACKENDS

    def to_json(self):
        """Return a dict that `Side(**...)` takes back."""
        return asdict(self)


def plan_sides(backends, precisions, jits, references=()):
    """List the sides of a comparison, those that are alike but for the library together.

    A reference has no choice but plain or compiled: it is compiled where "true" is asked for.

    Args:
        backends: sequence of str.
        precisions: sequence of str.
        jits: sequence of str of `JITS` and "eager".
        references: sequence of str of `REFERENCES`.

    Returns:
        list of `Side`.

    Raises:
        UsageError: A name is unknown, or nothing is left.
    """
    for option, given, known in (
        ("--backends", backends, BACKENDS),
        ("--precision", precisions, PRECISIONS),
        ("--jit", jits, (*JITS, EAGER)),
        ("--reference", references, REFERENCES),
    ):
        for name in given:
            if name not in known:
                raise UsageError(
                    f"`{option}`: unknown {name!r}. Known: {', '.join(known)}."
                )
    sides = [
        Side(library, precision, jit)
        for precision in precisions
        for jit in jits
        for library in backends
    ]
    plain = any(jit != "true" for jit in jits)
    compiled = ["auto"] * plain + ["true"] * ("true" in jits)
    sides += [
        Side(library, precision, jit)
        for precision in precisions
        for jit in compiled
        for library in references
    ]
    if not sides:
        raise UsageError("Nothing to compare. Give --backends, such as tensorflow,jax.")
    return list(dict.fromkeys(sides))


def default_references(model, found):
    """Choose the references of a model: those that have the same network.

    Args:
        model: A `ModelConfig`.
        found: callable of a module's name that tells whether it is installed.

    Returns:
        tuple of str.
    """
    if not can_refer(model):
        return ()
    return tuple(
        n for n, module in (("native", "torch"), ("timm", "timm")) if found(module)
    )


def can_refer(model):
    """Tell whether the references are the network of a `ModelConfig`."""
    return model.name == "vit" and (model.tokenizer, model.positions) == (
        "linear",
        "learned",
    )
