"""Write a model as a `.keras` file that every backend loads."""

from stm_keras.inference.model_file import load_predictor, save_model


def write(predictor, path, facts):
    """Write a `.keras` file; see `formats.Format`."""
    save_model(predictor.model, path, facts, overwrite=True)


def read(path):
    """Load it as a callable; see `formats.Format`."""
    model = load_predictor(path).model
    return lambda scans: model.predict(scans, batch_size=20, verbose=0)
