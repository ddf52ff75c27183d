"""Write a model as a program of torch.export (.pt2), which torch runs without Keras."""

import json

from stm_keras.export.common import fixed_network, in_batches

FACTS = "stm_keras.json"
MOST = 1024  # scans at a time


def write(predictor, path, facts):
    """Write the file; see `formats.Format`."""
    import torch

    model, spec = fixed_network(predictor)
    batch = {0: torch.export.Dim("batch", min=1, max=MOST)}
    model.export(
        path, format="torch", verbose=False, input_signature=spec, dynamic_shapes=batch
    )
    program = torch.export.load(path)
    text = json.dumps(facts, indent=1, allow_nan=False)
    torch.export.save(program, path, extra_files={FACTS: text})


def read(path):
    """Load it as a callable; see `formats.Format`."""
    import torch
    from keras import ops

    program = torch.export.load(path).module()

    def run(scans):
        with torch.inference_mode():
            out = program(ops.convert_to_tensor(scans))
        return {name: ops.convert_to_numpy(each) for name, each in out.items()}

    return lambda scans: in_batches(run, scans)
