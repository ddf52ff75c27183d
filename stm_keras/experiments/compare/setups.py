"""The setups of a comparison: a backend or a reference without Keras, and how it computes."""

from typing import Literal

from stm_keras.backend import BACKENDS
from stm_keras.errors import UsageError
from stm_keras.records import Record

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


class Setup(Record, frozen=True):
    """One row of a comparison: a library, and how it computes."""

    library: Literal["tensorflow", "jax", "torch", "native", "native-unmasked", "timm"]
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    jit: Literal["auto", "true", "false", "eager"] = "auto"  # as `train.jit_compile`

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
    def uses_keras(self):
        """Whether it is a backend of Keras and not a reference."""
        return self.library in BACKENDS

    @property
    def train_settings(self):
        """Settings of `TrainConfig` that make a run compute as this setup."""
        jit = {"auto": "auto", "true": True}.get(self.jit, False)
        return {"precision": self.precision, "jit_compile": jit}


def plan_setups(backends, precisions, jits, references=()):
    """List the setups of a comparison, those that differ in the library alone together.

    A reference is either plain or compiled; it is compiled where "true" is asked for.

    Raises:
        UsageError: A name is unknown, or nothing is left.
    """
    for option, names, known in (
        ("--backends", backends, BACKENDS),
        ("--precision", precisions, PRECISIONS),
        ("--jit", jits, (*JITS, EAGER)),
        ("--reference", references, REFERENCES),
    ):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"`{option}`: unknown {name!r}. Known: {', '.join(known)}."
                )
    plain = any(jit != "true" for jit in jits)
    compiled = ["auto"] * plain + ["true"] * ("true" in jits)
    setups = [
        Setup(library=library, precision=precision, jit=jit)
        for libraries, choices in ((backends, jits), (references, compiled))
        for precision in precisions
        for jit in choices
        for library in libraries
    ]
    if not setups:
        raise UsageError("Nothing to compare. Give --backends, such as tensorflow,jax.")
    return list(dict.fromkeys(setups))


def default_references(model, installed):
    """Choose the references of a `ModelConfig`: those that have the same network."""
    if not has_reference(model):
        return []
    modules = {"native": "torch", "timm": "timm"}
    return [name for name, module in modules.items() if installed(module)]


def has_reference(model):
    """Tell whether the references are the network of a `ModelConfig`."""
    parts = ("linear", "learned")
    return model.name == "vit" and (model.tokenizer, model.positions) == parts
