"""Made-up results of a comparison, and a config that is compared in seconds."""

from stm_keras.config import load_config
from stm_keras.experiments.compare.folder import ComparisonFolder
from stm_keras.experiments.compare.records import Plan, Setup

TINY_VIT = (
    *("model.name=vit", "model.layers=1", "model.heads=2", "model.dim=8"),
    *("model.mlp_dim=12", "train.batch_size=8", "augment.cut=0.2", "name=tiny"),
)


def part(library="jax", times=(1.0, 2.0, 4.0), **changes):
    """Make up what a setup measured; `jit` and `precision` of `changes` are the setup's."""
    chosen = {key: changes.pop(key) for key in ("jit", "precision") if key in changes}
    setup = Setup(library=library, **chosen)
    name = changes.pop("machine", "here")
    rounds = [
        {
            "train": {"wall": time, "cpu": time / 2},
            "loss": 1.0,
            "predict": {"wall": 0.01, "cpu": 0.01},
            "memory": {"host": 1.5, "device": None},
        }
        for time in times
    ]
    computed = "bfloat16" if setup.precision == "mixed_bfloat16" else "float32"
    return {
        "side": setup.model_dump(),
        "name": setup.name,
        "status": "done",
        "label": f"{name} ({setup.name})",
        "session": "one",
        "batch_size": 32,
        "machine": machine(name),
        "identity": {"data": "a" * 64, "split": "b" * 64, "batches": []},
        "weights": "c" * 64,
        "parameters": 1234,
        "dtypes": {
            "input": "float32",
            "weights": ["float32"],
            "computed": computed,
            "logits": ["float32"],
        },
        "devices": ["cpu"],
        "versions": {"keras": "3"},
        "seconds": {"import": 1.0, "build": 1.0},
        "first_step": {"wall": 9.0, "cpu": 8.0},
        "rounds": rounds,
        "agreement": {
            "logits": [0.0, 1.0],
            "losses": [1.0, 0.5],
            "logits_after": [0.0, 2.0],
        },
        **changes,
    }


def machine(name):
    """Make up the facts of a machine."""
    words = {"processor": "Z80", "system": "Linux", "python": "3", "date": "2026-11-25"}
    numbers = {"cores": 2, "cores_allowed": 2, "memory_gb": 8.0}
    return {"name": name, **words, **numbers, "load": [0.5, 0.7], "slurm_job": None}


def made_up_folder(path, parts, **plan):
    """Write a comparison that is finished, without having measured anything.

    Args:
        path: `Path`.
        parts: list of dict, as of `part`.
        **plan: Fields of the `Plan` that differ.

    Returns:
        `ComparisonFolder`.
    """
    folder = ComparisonFolder(path)
    setups = tuple(dict.fromkeys(Setup(**each["side"]) for each in parts))
    config = load_config(settings=[*TINY_VIT, "data.path=scans.h5"])
    folder.start(Plan(**{"config": config, "setups": setups, "steps": 2, **plan}))
    hashes = dict.fromkeys(("data", "split", "weights", "split_note"), "d" * 64)
    folder.write_json(
        "material.json", {**hashes, "classes": [], "scans": 96, "batches": []}
    )
    folder.write_json("split.json", {})
    folder.file("weights.npz").write_bytes(b"")
    for each in parts:
        saved = {k: v for k, v in each.items() if k not in ("label", "batch_size")}
        folder.write_part(Setup(**each["side"]), saved)
    return folder
