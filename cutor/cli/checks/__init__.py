"""What ``cutor doctor`` looks at: a module for each thing that can be wrong, and what is found of it.

Reading order: ``findings`` (what a check says), ``examination`` (which checks there are, and in which order), then any of them.
"""
