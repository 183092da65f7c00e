"""Questions in SQL while the projector writes: the words of the wire, the process that answers, and the copy that it reads."""
