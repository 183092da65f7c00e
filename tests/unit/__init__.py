"""Functions and small objects by themselves: no service, and no wait."""
