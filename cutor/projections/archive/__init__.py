"""The archive: what streams hold, in Parquet files that are never changed again.

```
<archive>/lock                              who writes; one at a time
<archive>/mark                              by which the stack knows it
<archive>/<STREAM>/manifest.json            which segments there are, with hashes; renamed into place last
<archive>/<STREAM>/<first>-<last>.parquet   the messages of that range of sequences, as they stand in the stream
<archive>/<STREAM>/decoded/                 what a rebuild reads of them in place of their bodies; made again where it is gone
<archive>/fold/                             the views of what is sealed, with which a rebuild begins; likewise
```

In reading order: ``manifest`` (what an archive says of itself), ``place`` (directory, lock, putting in place),
``segment_file`` (Parquet, by DuckDB), ``sealing`` (from a stream into segments), ``room`` (what gives way to them), ``joined``
(archive and stream as one), ``rules``, ``decoded``, ``decoded_file`` and ``decoding`` (segments into what a rebuild reads),
``sealed_batch`` and ``folding`` (sealed messages into views), ``fold_rules``, ``sealed_fold``, ``fold_copy``, ``fold_sealing``
and ``fold_verification`` (the views of what is sealed), ``beginning`` (new views that begin with them), ``sealed_bodies``
(contents by their names), ``verification``, ``reports``, ``belonging`` (is it the stack's own?), ``unended`` and ``retention``
(what may go), ``references`` and ``body_retention`` (which bodies may), ``mending`` (which are put back), ``lives``
(submissions by their ids), ``sealed`` (for whoever misses what a stream has let go of), ``measuring`` (its metrics),
``archiver`` (the role that does all this on a schedule), ``errors``.
"""
