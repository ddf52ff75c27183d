"""The same training on several backends, side by side: agreement, speed, memory, score."""
