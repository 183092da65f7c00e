"""Jails: one nsjail process tree around one stage, inside a child container.

Reading order: ``protocol`` (frames, on both sides), ``frames``, ``submission``, ``memory``
and ``room`` (what a container needs and has), ``session`` (the host's end), then ``inside/``:
what runs in the image, which has ``lean`` in place of half of the standard library.
The modules ``protocol`` and ``inside/*`` import the standard library only, and only what Debian's python3-minimal holds.
"""
