"""The content-addressed store: blobs under the SHA-1 of their content."""
