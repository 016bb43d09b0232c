"""Runs, tasks, artifacts and logs on top of a content-addressed store, as Metaflow keeps them."""
