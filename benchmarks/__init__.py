"""One script per question; `benchmarks.runner` interleaves the rivals."""
