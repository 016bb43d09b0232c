"""How a blob's content becomes stored bytes and back: synchronous, run in threads, without an event loop."""
