"""Many training runs of a config: how they are planned, queued and collected.

1. `plan` lists them. A sweep takes every combination of a grid of settings and every seed, or
   what a search suggests; a benchmark takes every config, variant, protocol and fold. Each run
   is a `PlannedRun`: a folder, and the arguments of `stm-keras train` that make it.
2. `sweep` writes the folder of a sweep: what was asked for, and a line for each job.
3. `queue` makes them: some at a time here, or on SLURM as job arrays that never run more than
   asked for. What is finished or still queued is left alone, so any command may be repeated.
   `search` is what a job of a search does: it tries one trial after another.
4. `collect` reads what came of them: a table of the runs of a sweep, means over seeds, and the
   scores of a benchmark over all folds together.

`compare` trains one network with several backends, side by side, and uses the same queue.
"""
