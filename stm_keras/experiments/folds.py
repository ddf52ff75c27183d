"""Which runs a benchmark is made of: configs, variants of them, protocols and folds."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stm_keras.data.campaigns import session_campaigns
from stm_keras.errors import UsageError


@dataclass(frozen=True)
class Fold:
    """One run of a benchmark.

    Args:
        config: `Path` of the config file.
        protocol: str. "p1", "p2" or "p3".
        number: int. The test fold.
        path: `Path` of the run.
        variant: str. Name of what differs from the config, empty for the config itself.
        settings: tuple of str `section.key=value`: what differs.
    """

    config: Path
    protocol: str
    number: int
    path: Path
    variant: str = ""
    settings: tuple = ()

    @property
    def name(self):
        """Name of config and variant."""
        return self.config.stem + ("+" if self.variant else "") + self.variant

    @property
    def key(self):
        """Name for `--only` and messages."""
        return f"{self.name}:{self.protocol}:{self.number}"

    def done(self):
        """Tell whether the run has judged its test scans."""
        return (self.path / "predictions.npz").exists()


def read_variant(text):
    """Read "name:section.key=value,section.key=value".

    Returns:
        Tuple of str and tuple of str.

    Raises:
        UsageError: It is none.
    """
    name, colon, settings = text.partition(":")
    parts = tuple(re.split(r",(?=[a-z_]+[.=])", settings))  # not inside a list
    if not colon or not re.fullmatch(r"[A-Za-z0-9._-]+", name) or not all(parts):
        raise UsageError(
            "`--vary` takes name:section.key=value, with further settings by comma. "
            f"Received: {text}."
        )
    return name, parts


def plan(configs, protocols, dataset, folder, num_folds=5, only=(), variants=()):
    """List the runs of a benchmark.

    Args:
        configs: sequence of `Path`.
        protocols: sequence of str.
        dataset: A `Dataset`. Under P3 each campaign is a fold.
        folder: `Path`. Where the runs lie.
        num_folds: int. Folds under P1 and P2.
        only: sequence of str `config:protocol:fold`, each part of which may be left out
            from the right. Empty for all.
        variants: sequence of pairs of name and settings, as of `read_variant`: each config
            is planned as it is and once with each of these.

    Returns:
        list of `Fold`.

    Raises:
        UsageError: `only` names no run.
    """
    folds = []
    named = [(config, *each) for config in configs for each in [("", ()), *variants]]
    for config, variant, settings in named:
        for protocol in protocols:
            count = num_folds
            if protocol == "p3":
                count = len(np.unique(session_campaigns(dataset)))
            stem = Fold(config, protocol, 0, folder, variant).name
            folds += [
                Fold(
                    config,
                    protocol,
                    number,
                    folder / f"{stem}-{protocol}-fold{number}",
                    variant,
                    settings,
                )
                for number in range(count)
            ]
    if only:
        chosen = [
            fold for fold in folds if any(f"{fold.key}:".startswith(f"{o}:") for o in only)
        ]
        if not chosen:
            known = ", ".join(fold.key for fold in folds[:3])
            raise UsageError(f"`--only {only[0]}` names no run. Runs are {known} ...")
        return chosen
    return folds
