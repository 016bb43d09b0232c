"""Sessions that developers and CI run."""
