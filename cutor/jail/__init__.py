"""Jails: one nsjail process tree around one stage, inside a child container.

Reading order: ``frames``, ``job``, ``memory`` and ``room`` (what a container needs and has), ``session`` (the host's
end), then ``inside/``: what runs in the image, on the standard library of Debian's python3-minimal alone.
"""
