"""What runs inside the worker processes, one file for each rival; `benchmarks.worker` talks to them."""
