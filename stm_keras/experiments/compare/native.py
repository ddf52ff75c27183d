"""The scanline ViT in plain PyTorch and in timm, to measure ours against: no Keras in here."""

import torch
from torch import nn
from torch.nn import functional

from stm_keras.errors import MissingExtraError
from stm_keras.experiments.compare import machine
from stm_keras.experiments.compare.folder import KEPT, digest

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


class Theirs:
    """Train and predict without Keras, as one side of a comparison.

    Args:
        folder: A `Folder` that is prepared.
        plan: Its `Plan`.
        side: The `Side`, one of `REFERENCES`.
    """

    def __init__(self, folder, plan, side):
        self.folder, self.plan, self.side = folder, plan, side
        self.material = folder.material()
        self.initial = folder.weights()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network, self.step = self.build(plan.config.model.dropout)
        kept = min(plan.steps_per_round, KEPT)
        self.held = [folder.batch(number) for number in range(kept)]
        self.forward = torch.compile(self.network) if side.jit == "true" else self.network

    def build(self, dropout):
        """Make the network with the initial weights, and what trains it for a step."""
        config, facts = self.plan.config, self.material
        torch.manual_seed(config.seed)
        sizes = config.model.model_dump(exclude={"name", "tokenizer", "positions"})
        sizes |= {"dropout": dropout, "max_lines": facts["lines"]}
        sizes |= {"pixels": facts["pixels"], "num_classes": len(facts["classes"])}
        if self.side.library == "timm":
            network = LinesAsPatches(**sizes)
        else:
            network = NativeViT(**sizes, masked=self.side.library == "native")
        copy_weights(self.initial, network)
        network.to(self.device)
        step = native_step(
            network,
            config.train,
            facts["learning_rates"],
            self.side.precision,
            self.side.jit == "true",
        )
        return network, step

    def facts(self):
        """Tell what the arrays themselves say: weights, dtypes and device."""
        told = {}
        with torch.inference_mode(), autocast(self.device, self.side.precision):
            batch = torch.from_numpy(self.held[0][0][:1]).to(self.device)
            first = next(m for m in self.network.modules() if hasattr(m, "bias"))
            hook = first.register_forward_hook(lambda *seen: told.update(out=seen[2]))
            logits = self.network(batch)
            hook.remove()
        weights = list(self.network.parameters())
        found = {machine.place(array) for array in (*weights, logits, told["out"])}
        return {
            "parameters": sum(weight.numel() for weight in weights),
            "weights": digest(self.initial.values()),
            "dtypes": {
                "input": _name(batch),
                "weights": sorted({_name(weight) for weight in weights}),
                "computed": _name(told["out"]),
                "logits": [_name(logits.float())],  # as the loss takes them
            },
            "devices": sorted(found),
            "versions": machine.versions(self.side.library),
        }

    def train(self, count):
        """Do `count` steps, and return the last loss."""
        for number in range(count):
            loss = self.step(*self.held[number % len(self.held)])
        return float(loss)

    def predict(self):
        """Predict the scans of the batches at hand, and return how many they are."""
        for inputs, *_ in self.held:
            self._logits(self.forward, inputs)
        return sum(len(inputs) for inputs, *_ in self.held)

    def _logits(self, network, inputs):
        self.network.eval()
        with torch.inference_mode(), autocast(self.device, self.side.precision):
            found = network(torch.from_numpy(inputs).to(self.device))
        self.network.train()
        return found.float().cpu().numpy()

    def agree(self):
        """Compute logits, losses of the first steps and logits after them, without dropout."""
        self.network, self.step = self.build(0.0)
        scans = self.folder.scans()
        before = self._logits(self.network, scans).ravel().tolist()
        losses = []
        for number in range(self.plan.steps):
            losses.append(float(self.step(*self.folder.batch(number))))
        after = self._logits(self.network, scans).ravel().tolist()
        return {"logits": before, "losses": losses, "logits_after": after}


def _name(tensor):
    return str(tensor.dtype).removeprefix("torch.")
