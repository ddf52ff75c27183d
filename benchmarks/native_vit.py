"""The scanline ViT in plain PyTorch, to measure ours against: no Keras in here."""

import torch
from torch import nn
from torch.nn import functional


class NativeViT(nn.Module):
    """The network of `stm_keras.models.vit` as a PyTorch user would write it.

    A linear tokenizer, a class token, learned positions and `nn.TransformerEncoder`
    with `norm_first=True`. As in ours, nothing is dropped from the attention weights.

    Args:
        num_classes: int. Classes.
        pixels: int. Pixels of a line.
        max_lines: int. The most lines of a scan.
        layers: int. Blocks.
        heads: int. Attention heads in a block.
        dim: int. Length of a token.
        mlp_dim: int. Hidden width of a block.
        dropout: float. Rate after the positions and in the blocks.
        masked: bool. Whether no token looks at lines of zeros, as in ours. Without,
            PyTorch may choose faster attention.
    """

    def __init__(
        self,
        num_classes,
        pixels=128,
        max_lines=128,
        layers=6,
        heads=8,
        dim=256,
        mlp_dim=1024,
        dropout=0.1,
        masked=False,
    ):
        super().__init__()
        self.tokenizer = nn.Linear(pixels, dim)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.positions = nn.Parameter(0.02 * torch.randn(max_lines + 1, dim))
        self.dropout = nn.Dropout(dropout)
        block = nn.TransformerEncoderLayer(
            dim,
            heads,
            mlp_dim,
            dropout,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            block, layers, norm=nn.LayerNorm(dim, eps=1e-6), enable_nested_tensor=False
        )
        for layer in self.encoder.layers:
            layer.self_attn.dropout = 0.0
        self.head = nn.Linear(dim, num_classes)
        self.masked = masked

    def forward(self, lines):
        first = self.class_token.expand(len(lines), 1, -1)
        tokens = torch.cat([first, self.tokenizer(lines)], dim=1)
        tokens = self.dropout(tokens + self.positions[: tokens.shape[1]])
        unseen = None
        if self.masked:
            unseen = functional.pad((lines == 0).all(dim=-1), (1, 0))
        tokens = self.encoder(tokens, src_key_padding_mask=unseen)
        return self.head(tokens[:, 0])


def native_step(network, settings, compiled=False):
    """Return a function that does one training step, as `compile_model` asks of Keras.

    AdamW with linear warm-up, no decay of biases, norms, positions and class token,
    clipping of the global norm, label smoothing, a weight for each scan.

    Args:
        network: A `NativeViT`.
        settings: A `stm_keras.sections.TrainConfig`.
        compiled: bool. Whether `torch.compile` compiles the network.

    Returns:
        callable of a batch of inputs, one-hot targets and weights, all NumPy arrays,
        that returns the loss as a tensor.
    """
    decayed, kept = [], []
    for name, weight in network.named_parameters():
        spared = weight.ndim == 1 or name in ("class_token", "positions")
        (kept if spared else decayed).append(weight)
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=1000)
    weights = list(network.parameters())
    forward = torch.compile(network) if compiled else network
    half = settings.precision == "mixed_bfloat16"
    device = weights[0].device
    network.train()

    def step(inputs, targets, scan_weights):
        inputs, targets, scan_weights = (
            torch.from_numpy(array).to(device) for array in (inputs, targets, scan_weights)
        )
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = forward(inputs)
        losses = functional.cross_entropy(
            logits.float(),
            targets,
            reduction="none",
            label_smoothing=settings.label_smoothing,
        )
        loss = (losses * scan_weights).mean()
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(weights, settings.clip_norm)
        optimizer.step()
        schedule.step()
        return loss.detach()

    return step


def copy_weights(weights, network):
    """Give a `NativeViT` the weights of a Keras model made by `stm_keras.models.vit`.

    Args:
        weights: dict of a variable's path to its NumPy array.
        network: A `NativeViT` of the same sizes, changed in place.
    """
    found = {path: torch.tensor(array) for path, array in weights.items()}
    dim = network.class_token.shape[-1]

    def linear(path, layer):
        _set(layer.weight, found[f"{path}/kernel"].reshape(layer.in_features, -1).T)
        _set(layer.bias, found[f"{path}/bias"])

    def norm(path, layer):
        _set(layer.weight, found[f"{path}/gamma"])
        _set(layer.bias, found[f"{path}/beta"])

    linear("tokenizer/project", network.tokenizer)
    _set(network.class_token, found["class_token/class_token"])
    _set(network.positions, found["positions/position_embedding"])
    for index, layer in enumerate(network.encoder.layers):
        block, attention = f"block_{index}", layer.self_attn
        parts = [f"{block}/attention/{part}" for part in ("query", "key", "value")]
        kernels = [found[f"{part}/kernel"].reshape(dim, dim).T for part in parts]
        biases = [found[f"{part}/bias"].reshape(dim) for part in parts]
        _set(attention.in_proj_weight, torch.cat(kernels))
        _set(attention.in_proj_bias, torch.cat(biases))
        linear(f"{block}/attention/attention_output", attention.out_proj)
        norm(f"{block}/attention_norm", layer.norm1)
        norm(f"{block}/mlp_norm", layer.norm2)
        linear(f"{block}/expand", layer.linear1)
        linear(f"{block}/contract", layer.linear2)
    norm("norm", network.encoder.norm)
    linear("logits", network.head)


def _set(parameter, value):
    with torch.no_grad():
        parameter.copy_(value)
