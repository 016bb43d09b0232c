"""Metadata of flows, runs, steps and tasks: providers, records, heartbeat, and carrying it through a datastore."""
