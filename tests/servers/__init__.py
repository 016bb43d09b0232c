"""Real servers on loopback, for tests and benchmarks; `tests.servers.fixtures` hands them to pytest."""
