"""The runtime's own code: what stands between the host and a script."""
