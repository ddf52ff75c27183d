"""The scanline ViT in plain PyTorch and in timm, to measure ours against: no Keras in here."""

import torch
from torch import nn
from torch.nn import functional

from stm_keras.errors import MissingExtraError
from stm_keras.experiments.compare.folder import TIMED_BATCHES, digest
from stm_keras.experiments.compare.machine import devices_of

NOT_DECAYED = ("class_token", "positions", "cls_token", "pos_embed")  # nor biases and norms
EPSILON = 1e-7  # of Keras' AdamW


class NativeViT(nn.Module):
    """The network of `stm_keras.models.vit` as a PyTorch user would write it.

    Of a `VitConfig`: a linear tokenizer, a class token, learned positions and
    `nn.TransformerEncoder` with `norm_first=True`. As in ours, nothing is dropped from the
    attention weights, and if `masked` no token attends to lines of zeros. Without, PyTorch
    may choose faster attention.
    """

    def __init__(self, config, num_classes, pixels, max_lines, masked=False):
        super().__init__()
        dim, dropout = config.dim, config.dropout
        self.tokenizer = nn.Linear(pixels, dim)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.positions = nn.Parameter(0.02 * torch.randn(max_lines + 1, dim))
        self.dropout = nn.Dropout(dropout)
        block = nn.TransformerEncoderLayer(
            dim,
            config.heads,
            config.mlp_dim,
            dropout,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(dim, eps=1e-6)
        self.encoder = nn.TransformerEncoder(
            block, config.layers, norm, enable_nested_tensor=False
        )
        for layer in self.encoder.layers:
            layer.self_attn.dropout = 0.0
        self.head = nn.Linear(dim, num_classes)
        self.masked = masked

    def forward(self, lines):
        first = self.class_token.expand(len(lines), 1, -1)
        tokens = torch.cat([first, self.tokenizer(lines)], dim=1)  # (batch, lines + 1, dim)
        tokens = self.dropout(tokens + self.positions[: tokens.shape[1]])
        hidden = None
        if self.masked:
            hidden = functional.pad((lines == 0).all(dim=-1), (1, 0))
        tokens = self.encoder(tokens, src_key_padding_mask=hidden)
        return self.head(tokens[:, 0])


class TimmViT(nn.Module):
    """timm's ViT as our network: a patch is a line. It has no mask."""

    def __init__(self, config, num_classes, pixels, max_lines):
        super().__init__()
        try:
            from timm.models.vision_transformer import VisionTransformer
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"timm cannot be imported ({error}). Run: pip install timm"
            ) from None
        self.vit = VisionTransformer(
            img_size=(max_lines, pixels),
            patch_size=(1, pixels),
            in_chans=1,
            num_classes=num_classes,
            embed_dim=config.dim,
            depth=config.layers,
            num_heads=config.heads,
            mlp_ratio=config.mlp_dim / config.dim,
            pos_drop_rate=config.dropout,
            proj_drop_rate=config.dropout,
        )

    def forward(self, lines):
        return self.vit(lines[:, None])


def copy_weights(weights, network):
    """Give a `NativeViT` or `TimmViT` the weights of `stm_keras.models.vit`."""
    timm = isinstance(network, TimmViT)
    arrays = {path: torch.tensor(array) for path, array in weights.items()}
    dim = arrays["class_token/class_token"].shape[-1]

    def linear(path, layer):
        _assign(layer.weight, arrays[f"{path}/kernel"].reshape(-1, len(layer.bias)).T)
        _assign(layer.bias, arrays[f"{path}/bias"])

    def norm(path, layer):
        _assign(layer.weight, arrays[f"{path}/gamma"])
        _assign(layer.bias, arrays[f"{path}/beta"])

    vit = network.vit if timm else network
    linear("tokenizer/project", vit.patch_embed.proj if timm else vit.tokenizer)
    class_token = vit.cls_token if timm else vit.class_token
    _assign(class_token, arrays["class_token/class_token"])
    positions = vit.pos_embed if timm else vit.positions
    _assign(positions, arrays["positions/position_embedding"])
    for index, layer in enumerate(vit.blocks if timm else vit.encoder.layers):
        block, attention = f"block_{index}", layer.attn if timm else layer.self_attn
        # Keras has query, key and value apart, (dim, heads, dim / heads); here they are stacked
        parts = [f"{block}/attention/{part}" for part in ("query", "key", "value")]
        kernel = torch.cat([arrays[f"{part}/kernel"].reshape(dim, dim).T for part in parts])
        bias = torch.cat([arrays[f"{part}/bias"].reshape(dim) for part in parts])
        _assign(attention.qkv.weight if timm else attention.in_proj_weight, kernel)
        _assign(attention.qkv.bias if timm else attention.in_proj_bias, bias)
        output = attention.proj if timm else attention.out_proj
        linear(f"{block}/attention/attention_output", output)
        norm(f"{block}/attention_norm", layer.norm1)
        norm(f"{block}/mlp_norm", layer.norm2)
        linear(f"{block}/expand", layer.mlp.fc1 if timm else layer.linear1)
        linear(f"{block}/contract", layer.mlp.fc2 if timm else layer.linear2)
    norm("norm", vit.norm if timm else vit.encoder.norm)
    linear("logits", vit.head)


def _assign(parameter, value):
    with torch.no_grad():
        parameter.copy_(value.reshape(parameter.shape))


def native_step(network, settings, rates, precision="float32", compiled=False):
    """Return a function that does one training step, as `compile_model` has Keras do it.

    AdamW with the run's learning rates, no decay of biases, norms, positions and class
    token, clipping of the global norm, label smoothing, a weight for each scan.
    """
    decayed, others = [], []
    for name, weight in network.named_parameters():
        exempt = weight.ndim == 1 or name.rpartition(".")[2] in NOT_DECAYED
        (others if exempt else decayed).append(weight)
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    )
    weights = list(network.parameters())
    forward = torch.compile(network) if compiled else network
    device = weights[0].device
    steps = 0
    network.train()

    def step(inputs, targets, scan_weights):
        nonlocal steps
        for group in optimizer.param_groups:
            group["lr"] = rates[min(steps, len(rates) - 1)]
            # Keras adds epsilon before it corrects the second moment for its start
            group["eps"] = EPSILON / (1 - group["betas"][1] ** (steps + 1)) ** 0.5
        steps += 1
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


class TorchTrainer:
    """Train and predict without Keras."""

    def __init__(self, folder, plan, setup):
        self.folder, self.plan, self.setup = folder, plan, setup
        self.material = folder.material()
        self.initial = folder.weights()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        self.gpu = f"gpu: {torch.cuda.get_device_name()}" if on_gpu else ""
        self.compiled = setup.jit == "true"
        self.network, self.step = self._build(plan.config.model)
        count = min(plan.steps_per_round, TIMED_BATCHES)
        self.batches = [folder.batch(number) for number in range(count)]
        self.forward = torch.compile(self.network) if self.compiled else self.network

    def _build(self, vit):
        """Make the network with the initial weights, and what trains it for a step."""
        config, given = self.plan.config, self.material
        torch.manual_seed(config.seed)
        sizes = len(given["classes"]), given["pixels"], given["lines"]
        if self.setup.library == "timm":
            network = TimmViT(vit, *sizes)
        else:
            network = NativeViT(vit, *sizes, masked=self.setup.library == "native")
        copy_weights(self.initial, network)
        network.to(self.device)
        rates, precision = given["learning_rates"], self.setup.precision
        return network, native_step(network, config.train, rates, precision, self.compiled)

    def describe(self):
        """Return weights, dtypes and devices, the last asked of the arrays themselves."""
        with torch.inference_mode(), autocast(self.device, self.setup.precision):
            batch = torch.from_numpy(self.batches[0][0][:1]).to(self.device)
            logits = self.network(batch)  # as they come from its last layer
        weights = list(self.network.parameters())
        return {
            "parameters": sum(weight.numel() for weight in weights),
            "weights": digest(self.initial.values()),
            "dtypes": {
                "input": _dtype(batch),
                "weights": sorted({_dtype(weight) for weight in weights}),
                "computed": _dtype(logits),
                "logits": ["float32"],  # as the loss takes them
            },
            "devices": devices_of([*weights, logits], self.gpu),
        }

    def train(self, count):
        """Do `count` steps, and return the last loss."""
        for number in range(count):
            loss = self.step(*self.batches[number % len(self.batches)])
        return float(loss)

    def predict(self):
        """Predict the scans of the timed batches, and return how many they are."""
        for inputs, *_ in self.batches:
            self._logits(self.forward, inputs)
        return sum(len(inputs) for inputs, *_ in self.batches)

    def agree(self):
        """Compute logits, losses of the first steps and logits after them, without dropout."""
        vit = self.plan.config.model.model_copy(update={"dropout": 0.0})
        self.network, self.step = self._build(vit)
        scans = self.folder.scans()
        before = self._logits(self.network, scans).ravel().tolist()
        steps = range(self.plan.steps)
        losses = [float(self.step(*self.folder.batch(number))) for number in steps]
        after = self._logits(self.network, scans).ravel().tolist()
        return {"logits": before, "losses": losses, "logits_after": after}

    def _logits(self, network, inputs):
        self.network.eval()
        with torch.inference_mode(), autocast(self.device, self.setup.precision):
            logits = network(torch.from_numpy(inputs).to(self.device))
        self.network.train()
        return logits.float().cpu().numpy()


def _dtype(tensor):
    return str(tensor.dtype).removeprefix("torch.")
