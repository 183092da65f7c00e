"""cutor, as far as it is in the child image: not the Python interface, which loads half of the standard library."""
