"""The services. None imports another: they know each other by subject and message only."""
