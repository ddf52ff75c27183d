"""The page of `stm-keras watch`, and what other programs ask for beside it."""
