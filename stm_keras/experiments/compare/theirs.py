"""A side that is not ours: the same network in plain PyTorch or timm, on the same batches."""

import torch

from stm_keras.experiments.compare import arrays
from stm_keras.experiments.compare.folder import KEPT, digest
from stm_keras.experiments.compare.native import (
    LinesAsPatches,
    NativeViT,
    autocast,
    copy_weights,
    native_step,
)


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
        found = {arrays.place(array) for array in (*weights, logits, told["out"])}
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
            "versions": arrays.versions(self.side.library),
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
