"""Watch a scan while it runs: sources of lines, verdicts, the log, alarms and hooks.

    source → lines → stream → verdicts → records → log, alarms, hooks, subscribers, terminal

A source never judges, and what judges never knows the source (`events`).
"""
