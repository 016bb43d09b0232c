"""What others test their own parts with: conformance suites, faults and latency. Needs the extra ``test``."""
