"""Judge scans with a trained model.

A scan becomes a verdict in this package: `find_files` finds scan files, `inputs` and
`scan_input` read them and bring them to the lines and pixels of a model (`sizes` cuts large
scans into tiles), a `predictor` computes, `judge` makes the `verdict` on a whole scan, `stream`
the one after every line, and `predict_files` goes through many files and hands out each
`scan_result`.

`Predictor` is the contract of all models. `keras_predictor`, `onnx_model` and `trees_model` keep
it; `find_model` finds a model file, and `model_file` opens it as one of them. `evaluate` scores
a model on scans with known classes, `evaluate_unknown` on unknown surfaces.

Only `keras_predictor` and `model_file` load Keras. `keras_parts` and `onnx_file` look through
model files from elsewhere before Keras or onnxruntime does.
"""
