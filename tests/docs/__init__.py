"""Pages are complete, current, and their blocks run."""
