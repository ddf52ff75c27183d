"""The scanline ViT in plain PyTorch and in timm, to measure ours against: no Keras in here."""

import torch
from torch import nn
from torch.nn import functional

from stm_keras.errors import MissingExtraError

SPARED = ("class_token", "positions", "cls_token", "pos_embed")  # beside biases and norms
EPSILON = 1e-7  # of Keras' AdamW


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


def native_step(network, settings, rates, precision="float32", compiled=False):
    """Return a function that does one training step, as `compile_model` asks of Keras.

    AdamW with the run's learning rates, no decay of biases, norms, positions and class
    token, clipping of the global norm, label smoothing, a weight for each scan.

    Args:
        network: `torch.nn.Module` from lines to logits.
        settings: A `stm_keras.settings.TrainConfig`.
        rates: sequence of float. Learning rate of each step; the last one stays.
        precision: str. "float32" or "mixed_bfloat16".
        compiled: bool. Whether `torch.compile` compiles the network.

    Returns:
        callable of a batch of inputs, one-hot targets and weights, all NumPy arrays,
        that returns the loss as a tensor.
    """
    decayed, kept = [], []
    for name, weight in network.named_parameters():
        spared = weight.ndim == 1 or name.rpartition(".")[2] in SPARED
        (kept if spared else decayed).append(weight)
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
    )
    weights = list(network.parameters())
    forward = torch.compile(network) if compiled else network
    device = weights[0].device
    done = 0
    network.train()

    def step(inputs, targets, scan_weights):
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = rates[min(done, len(rates) - 1)]
            # Keras adds epsilon before it corrects the second moment for its start
            group["eps"] = EPSILON / (1 - group["betas"][1] ** (done + 1)) ** 0.5
        done += 1
        inputs, targets, scan_weights = (
            torch.from_numpy(array).to(device) for array in (inputs, targets, scan_weights)
        )
        optimizer.zero_grad()
        with autocast(device, precision):
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
        return loss.detach()

    return step


def autocast(device, precision):
    """Return the context in which PyTorch computes as Keras does under `precision`."""
    half = precision == "mixed_bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


class LinesAsPatches(nn.Module):
    """timm's ViT as our network: a patch is a line.

    Args:
        num_classes, pixels, max_lines, layers, heads, dim, mlp_dim, dropout: As of
            `NativeViT`. timm knows no mask: it looks at lines of zeros too.

    Raises:
        MissingExtraError: timm is not installed.
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
    ):
        super().__init__()
        try:
            from timm.models.vision_transformer import VisionTransformer
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"timm cannot be imported ({error}). Type: pip install timm"
            ) from None
        self.vit = VisionTransformer(
            img_size=(max_lines, pixels),
            patch_size=(1, pixels),
            in_chans=1,
            num_classes=num_classes,
            embed_dim=dim,
            depth=layers,
            num_heads=heads,
            mlp_ratio=mlp_dim / dim,
            pos_drop_rate=dropout,
            proj_drop_rate=dropout,
        )

    def forward(self, lines):
        return self.vit(lines[:, None])


def copy_weights(weights, network):
    """Give a `NativeViT` the weights of a Keras model made by `stm_keras.models.vit`.

    Args:
        weights: dict of a variable's path to its NumPy array.
        network: A `NativeViT` or `LinesAsPatches` of the same sizes, changed in place.
    """
    timm = isinstance(network, LinesAsPatches)
    found = {path: torch.tensor(array) for path, array in weights.items()}
    dim = found["class_token/class_token"].shape[-1]

    def linear(path, layer):
        _set(layer.weight, found[f"{path}/kernel"].reshape(-1, len(layer.bias)).T)
        _set(layer.bias, found[f"{path}/bias"])

    def norm(path, layer):
        _set(layer.weight, found[f"{path}/gamma"])
        _set(layer.bias, found[f"{path}/beta"])

    vit = network.vit if timm else network
    blocks = vit.blocks if timm else vit.encoder.layers
    linear("tokenizer/project", vit.patch_embed.proj if timm else vit.tokenizer)
    _set(vit.cls_token if timm else vit.class_token, found["class_token/class_token"])
    _set(vit.pos_embed if timm else vit.positions, found["positions/position_embedding"])
    for index, layer in enumerate(blocks):
        block, attention = f"block_{index}", layer.attn if timm else layer.self_attn
        parts = [f"{block}/attention/{part}" for part in ("query", "key", "value")]
        kernels = [found[f"{part}/kernel"].reshape(dim, dim).T for part in parts]
        biases = [found[f"{part}/bias"].reshape(dim) for part in parts]
        _set(attention.qkv.weight if timm else attention.in_proj_weight, torch.cat(kernels))
        _set(attention.qkv.bias if timm else attention.in_proj_bias, torch.cat(biases))
        out = attention.proj if timm else attention.out_proj
        linear(f"{block}/attention/attention_output", out)
        norm(f"{block}/attention_norm", layer.norm1)
        norm(f"{block}/mlp_norm", layer.norm2)
        linear(f"{block}/expand", layer.mlp.fc1 if timm else layer.linear1)
        linear(f"{block}/contract", layer.mlp.fc2 if timm else layer.linear2)
    norm("norm", vit.norm if timm else vit.encoder.norm)
    linear("logits", network.vit.head if timm else network.head)


def _set(parameter, value):
    with torch.no_grad():
        parameter.copy_(value.reshape(parameter.shape))
