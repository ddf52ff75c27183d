"""The same training with several backends, side by side: agreement, speed, memory, scores.

`setups` are the rows of a comparison, `prepare` makes what all of them start from, and `measure`
has each of them train and predict in a process of its own (`worker`, with a `keras_trainer` or a
`torch_trainer`). `summary` turns what they measured into rows, `report` writes the pages.
"""
