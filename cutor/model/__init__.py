"""The functional core: values and decisions, without any input or output.

Reading order: ``limits``, ``content``, ``request``, ``outcome``, ``events``, ``subjects``, ``codec``, ``state``,
``decide``, ``result``. A test reads the imports of this package and fails when one of them could do I/O.
"""
