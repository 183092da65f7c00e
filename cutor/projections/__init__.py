"""Views in DuckDB, folded from the streams: they can be thrown away and made again at any time.

Reading order: ``sql/tables`` (what the views show), ``sql/session.sql`` and ``sql/fold`` (how events become views), ``schema``,
``folds`` (messages to rows), ``session``, ``store`` (one transaction a batch), ``views_file`` and ``writer`` (the one thread
that touches the file), ``wholeness`` (what a stream lacks), ``flood`` and ``letters`` (copies of what is no event),
``archive`` (sealed ranges of the streams), ``sealed_past``, ``rebuilds`` (the views anew, and compared), ``projector`` (the
role), ``queries`` (questions while the projector writes), ``exports`` (the views as a file), ``status``, ``format``,
``parquet``, ``errors``.
"""
