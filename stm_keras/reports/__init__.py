"""Pages and tables that people read: runs, scans, benchmarks, model cards."""
