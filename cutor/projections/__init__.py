"""Views in DuckDB, folded from the streams: they can be thrown away and made again at any time.

Reading order: ``sql/tables`` (what the views show), ``sql/session.sql`` and ``sql/fold`` (how events become views), ``schema``,
``rows``, ``sift`` and ``arrow`` (many messages at once), ``store`` (one transaction a batch), ``views_file``, ``writer`` (the
one thread that touches the file), ``gaps`` and
``wholeness`` (what a stream lacks), ``flood`` and ``letters`` (copies of what is no event), ``rebuild``, ``rebuild_orders``,
``rebuild_service``, ``rebuild_client`` (the views anew), ``projector`` (the role), ``questions``, ``query_link``,
``query_keeper``, ``query_worker``, ``workers``, ``snapshots``, ``query_service``, ``query_process``, ``query_client``
(questions while the projector writes), ``query_file`` (questions to a file), ``snapshot_orders``, ``export_worker``,
``exports``, ``snapshot_service``, ``snapshot_client``, ``publishing`` (the views as a file), ``status``, ``format``,
``parquet``, ``errors``, ``range_file`` (a range of the log as a file of its own).
"""
