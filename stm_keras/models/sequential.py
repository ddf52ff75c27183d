"""The streaming network: a verdict after every line, from that line and those before."""

import keras

from stm_keras import layers as own
from stm_keras.layers.lattice import NETWORK
from stm_keras.trees.features import highest_of

STEM = (  # filters over width, kernel and stride along the line, dilation over lines
    (1.0, 8, 4, 1),
    (1.5, 3, 2, 2),
    (2.0, 3, 2, 4),
    (4.0, 3, 2, 4),
)
CHANGE_STEM = ((0.75, 8, 4, 1), (1.5, 3, 2, 1), (2.25, 3, 2, 2))
DESCRIBED = "described"  # layer: what trees and `SURFACE` read
HEAD_INPUT = (
    "head_input"  # layer: what the last layer of a model by `stm-keras adapt` reads
)
TREES, SURFACE = "trees", "surface"  # layers: boosted trees; recognises unknown surfaces
CHANGE_TAPS = 3  # lines that each of these convolutions spans
LATEST = 8  # lines that a tip change is looked for in


def sequential(
    num_classes,
    pixels=128,
    max_lines=128,
    width=16,
    taps=3,
    mixer="gru",
    units=128,
    spectra=64,
    lattice=64,
    trees=0,
    surface=0,
    wide_head=False,
    layers=2,
    heads=4,
    window=128,
    dropout=0.2,
):
    """Build the streaming network: lines in, a verdict after each of them out.

    Four causal convolutions sum up the last 23 lines in a token: a lattice shows across
    lines, and between two it hardly changes. Beside them the spectrum of the lines so far
    shows what is periodic. A GRU or causal attention carries on what earlier lines showed,
    a running mean what the scan shows as a whole. Two more heads answer whether the tip
    changed at the line, by convolutions of its own, and whether the surface is unknown.

    `lattice`, `trees` and `surface` read numbers that describe the lines so far, wherever
    the lattice points: as a part of the tokens, as boosted trees whose logits are added to
    the network's, and as a layer that recognises unknown surfaces. Any number of lines may
    come, whatever `max_lines`. With `wide_head` the last layer reads them as well, and what the
    tokens were mixed of: a few scans of another surface then find more to hold on to.

    Returns:
        A functional `keras.Model` from float tensor `(batch, lines, pixels)`, as of
        `scale_lines`, to a dict of float32 logits: "state" `(batch, lines, num_classes)`,
        "change" and "unknown" `(batch, lines, 1)`.
    """
    kl = keras.layers
    lines = keras.Input((None, pixels), name="lines")

    # === Lines to tokens ===
    channels = own.LineChannels(name="channels")(lines)
    tokens = latest_lines(channels, width, taps, units)
    whole = [own.RunningMean(name="running_mean")(tokens)]  # of the scan so far
    if spectra:
        periodic = read_spectra(lines, spectra)
        tokens = kl.Concatenate(name="join")([tokens, periodic])
        whole.append(periodic)
    tokens = kl.Dropout(dropout, name="token_dropout")(tokens)

    # === What earlier lines showed ===
    if mixer == "gru":
        whole.append(own.Recurrent(units, name="recurrent")(tokens))
    elif mixer == "attention":
        for index in range(layers):
            name = f"block_{index}"
            tokens = own.CausalBlock(heads, 2 * units, window, dropout, name=name)(tokens)
        whole.append(kl.LayerNormalization(epsilon=1e-6, name="norm")(tokens))
    elif mixer != "mean":
        raise ValueError(
            f'`mixer` must be "gru", "attention" or "mean". Received: mixer={mixer}.'
        )
    gathered = kl.Concatenate(name="gather")(whole) if len(whole) > 1 else whole[0]
    tokens = kl.Dense(units, name="mix")(gathered)
    described = bool(trees or surface or wide_head)  # whether anything reads `DESCRIBED`
    if lattice or described:
        highest = highest_of(pixels)
        harmonics = own.RunningLattice(described, highest, name="lattice")(lines)
    if lattice:
        # at first it adds nothing to the tokens of the rest of the network
        add = kl.Dense(units, kernel_initializer="zeros", name="lattice_add")
        tokens = kl.Add(name="mix_lattice")([tokens, add(read_lattice(harmonics, lattice))])
    tokens = kl.Activation("relu", name="mix_relu")(tokens)

    # === Heads ===
    tokens = kl.Dropout(dropout, name="dropout")(tokens)
    if described:
        statistics = own.RunningStatistics(name="statistics")(lines)
        description = kl.Concatenate(name=DESCRIBED)([statistics, harmonics])
    read = tokens
    if wide_head:
        read = kl.Concatenate(name=HEAD_INPUT)([tokens, gathered, description])
    state = kl.Dense(num_classes, dtype="float32", name="state")(read)
    if trees:
        answer = own.BoostedTrees(num_classes, trees, name=TREES)(description)
        state = kl.Add(dtype="float32", name="state_and_trees")([state, answer])
    layer = kl.Dense(1, dtype="float32", name="change")
    change = layer(_change_features(channels, width, units))
    if surface:
        layer = kl.Dense(surface, activation="tanh", dtype="float32", name=SURFACE)
        tokens = layer(description)
    unknown = kl.Dense(1, dtype="float32", name="unknown")(tokens)
    heads = {"state": state, "change": change, "unknown": unknown}
    return keras.Model(lines, heads, name="sequential")


def latest_lines(channels, width=16, taps=3, units=128):
    """Sum up the lines that `STEM` spans, after each of them: a tensor `(batch, lines, units)`.

    `channels` are of `LineChannels`; `width` and `taps` as of `sequential`.
    """
    features = _convolve(channels, STEM, width, taps)
    tokens = own.LineSummary(name="summary")(features)
    return keras.layers.Dense(units, activation="relu", name="project")(tokens)


def read_spectra(lines, width=64):
    """Read what is periodic in the lines so far: a tensor `(batch, lines, width)`."""
    kl = keras.layers
    bins = round(highest_of(lines.shape[-1]))
    features = own.RunningSpectra(bins, name="spectra")(lines)
    features = kl.BatchNormalization(axis=-1, momentum=0.95, name="norm_spectra")(features)
    return kl.Dense(width, activation="relu", name="project_spectra")(features)


def read_lattice(features, width=64):
    """Read the harmonics of `RunningLattice`: a tensor `(batch, lines, width)`."""
    kl = keras.layers
    if features.shape[-1] > NETWORK:  # the profile is for the trees
        features = own.LastFeatures(NETWORK, name="lattice_alone")(features)
    features = kl.BatchNormalization(axis=-1, momentum=0.95, name="norm_lattice")(features)
    return kl.Dense(width, activation="relu", name="lattice_read")(features)


def _convolve(features, stem, width, taps, prefix=""):
    """Causal convolutions, each with its norm and ReLU."""
    for index, (share, kernel, stride, dilation) in enumerate(stem):
        filters, name = round(share * width), f"{prefix}conv_{index}"
        conv = own.CausalConv(filters, kernel, taps, dilation, stride, name=name)
        name = f"{prefix}norm_{index}"
        norm = keras.layers.BatchNormalization(axis=-1, momentum=0.95, name=name)
        features = norm(conv(features))
        features = keras.layers.Activation("relu", name=f"{prefix}relu_{index}")(features)
    return features


def _change_features(channels, width, units):
    """Compare the latest lines with all before them, by layers of its own.

    What a scan shows as a whole must not hang on its latest line, and a change shows in
    little else. Real scans have no labels of the line of a change, so `train.frozen` can keep
    these layers as they were trained on simulated scans.
    """
    kl = keras.layers
    features = _convolve(channels, CHANGE_STEM, width, CHANGE_TAPS, "change_")
    tokens = own.LineSummary(name="change_summary")(features)
    tokens = kl.Dense(units // 2, activation="relu", name="change_project")(tokens)
    mean = own.RunningMean(name="change_mean")(tokens)
    tokens = kl.Concatenate(name="change_beside")([tokens, mean])
    tokens = kl.Dense(units // 2, activation="relu", name="change_token")(tokens)
    tokens = own.LineWindow(LATEST, name="change_window")(tokens)
    tokens = kl.Dense(3 * units // 4, activation="relu", name="change_compare")(tokens)
    usual = own.RunningMean(name="change_usual")(tokens)
    tokens = kl.Concatenate(name="change_join")([tokens, usual])
    return kl.Dense(units // 2, activation="relu", name="change_mix")(tokens)
