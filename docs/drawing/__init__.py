"""The diagrams of the docs, drawn from the code: each module here returns one as a `graphviz.Digraph`.

`python docs/generate.py` writes what they are in DOT, `python -m docs.drawing` has ``dot`` lay them out (`rendering`).
"""
