"""The pages of the reference that are made from code: one module each, with a function that returns its text."""
