"""Every metric of cutor: name, unit, labels, and what it says. The reference page is made from this table.

Values of labels come from short lists of cutor's own (stages, outcomes, roles, streams) and from the configuration (tenants):
no text of a submission is one.

Pure.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

BOTH: Final = ("builder", "runner")
EVERY: Final = ("builder", "runner", "projector", "archiver")

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the buckets of a histogram, from a delivery that is answered at once to a build of half an hour. A choice."""
BYTES: Final = tuple(float(1 << shift) for shift in range(20, 35, 2))
ANSWERS: Final = tuple(float(1 << shift) for shift in range(10, 27, 2))
MESSAGES: Final = (1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0)
"""Likewise, from one event to the largest batch of a fold."""


class Metric(NamedTuple):
    """One metric. A counter's name ends with ``_total``; ``buckets`` are the upper bounds of a histogram, without infinity."""

    name: str
    kind: Kind
    about: str
    roles: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """The unit that the name ends with, or nothing for a plain number."""
        last = self.name.rpartition("_")[2]
        return last if last in {"seconds", "bytes"} else ""


INFO: Final = Metric("cutor_info", "gauge", "1, with the version and the role of the process", EVERY, ("role", "version"))
READY: Final = Metric("cutor_ready", "gauge", "whether the role serves: 1, or 0 before it does and once it stops", EVERY)
CONNECTED: Final = Metric("cutor_server_connected", "gauge", "whether the role is connected to NATS", EVERY)
DATA_FREE: Final = Metric("cutor_data_free_bytes", "gauge", "bytes free on the disk of the role's data directory", EVERY)
DATA_SIZE: Final = Metric("cutor_data_size_bytes", "gauge", "bytes of the disk of the role's data directory", EVERY)

EVENTS: Final = Metric("cutor_events_appended_total", "counter", "events that the role has appended", BOTH, ("kind",))
LEASES: Final = Metric("cutor_leases_total", "counter", "leases that the role has taken", BOTH, ("role",))
LEASES_LOST: Final = Metric(
    "cutor_leases_lost_total", "counter", "leases that another worker took over while the work went on", BOTH, ("role",)
)
LEASE_WAIT: Final = Metric(
    "cutor_lease_wait_seconds",
    "histogram",
    "from the event that calls for a step to its first lease: the time in the queue",
    BOTH,
    ("role", "tenant"),
    SECONDS,
)
STAGE_WALL: Final = Metric(
    "cutor_stage_wall_time_seconds", "histogram", "wall time of stages that have ended", BOTH, ("stage", "outcome"), SECONDS
)
STAGE_CPU: Final = Metric(
    "cutor_stage_cpu_time_seconds", "histogram", "CPU time of stages, where it was measured", BOTH, ("stage",), SECONDS
)
STAGE_MEMORY: Final = Metric(
    "cutor_stage_memory_peak_bytes", "histogram", "memory peak of stages, where it was measured", BOTH, ("stage",), BYTES
)
KILLS: Final = Metric(
    "cutor_kills_total",
    "counter",
    "stages that were stopped, at a limit or by a cancel",
    BOTH,
    ("stage", "reason"),
)
FINISHED: Final = Metric(
    "cutor_submissions_finished_total",
    "counter",
    "submissions that the role has ended; a cancelled one counts once it is cleaned",
    BOTH,
    ("tenant", "outcome"),
)
DURATION: Final = Metric(
    "cutor_submission_duration_seconds",
    "histogram",
    "from `submitted` to the end of a submission that was not cancelled",
    BOTH,
    ("outcome",),
    SECONDS,
)
HITS: Final = Metric("cutor_environment_hits_total", "counter", "submissions whose environment stood already", ("builder",))
BUILDS: Final = Metric(
    "cutor_environment_builds_total", "counter", "environments that were built for a submission: `ok` or `failed`",
    ("builder",), ("result",),
)  # fmt: skip
LOST: Final = Metric("cutor_environments_lost_total", "counter", "environments that a run did not find any more", ("runner",))
SLOTS: Final = Metric("cutor_slots", "gauge", "slots by state: `busy` or `free`", BOTH, ("state",))
IN_HAND: Final = Metric(
    "cutor_submissions_in_hand", "gauge", "submissions in the process: `working`, `looking`, or `waiting` for others",
    BOTH, ("state",),
)  # fmt: skip
POOL_CONTAINERS: Final = Metric(
    "cutor_pool_containers", "gauge", "containers made ahead: `ready`, `starting`, and how many are `wanted` ready",
    ("runner",), ("state",),
)  # fmt: skip
QUEUE: Final = Metric(
    "cutor_queue_depth", "gauge", "submissions whose step no worker has taken up yet", BOTH, ("role", "tenant")
)
UNACKNOWLEDGED: Final = Metric(
    "cutor_queue_unacknowledged",
    "gauge",
    "submissions in some worker's hands, or to come again",
    BOTH,
    ("role", "tenant"),
)

SEQUENCE: Final = Metric(
    "cutor_projector_sequence", "gauge", "the last message that is committed in the views", ("projector",), ("stream",)
)
BEHIND: Final = Metric(
    "cutor_projector_behind_messages", "gauge", "messages of the stream behind that one", ("projector",), ("stream",)
)
COMMIT: Final = Metric(
    "cutor_projector_commit_seconds", "histogram", "time of one commit of the views", ("projector",), ("stream",), SECONDS
)
BATCH: Final = Metric(
    "cutor_projector_batch_messages", "histogram", "messages of one commit", ("projector",), ("stream",), MESSAGES
)
WAITS: Final = Metric(
    "cutor_projector_waits",
    "gauge",
    "1 where the views cannot go on: what comes next is in the archive alone, and that cannot be used, or "
    "readings of the stream leave it out again and again",
    ("projector",),
    ("stream",),
)
REBUILDS: Final = Metric(
    "cutor_projector_rebuilds_total", "counter", "times that the views did not belong to the stream and were made anew",
    ("projector",),
)  # fmt: skip
VIEWS_BYTES: Final = Metric("cutor_projector_database_bytes", "gauge", "bytes of the file of the views", ("projector",))
QUESTION_RESULTS: Final = ("answered", "refused", "stopped", "timeout", "busy", "unavailable")
QUESTIONS: Final = Metric(
    "cutor_questions_total",
    "counter",
    "questions in SQL: `answered`, `refused` for what they ask, `stopped` for want of memory, `timeout`, `busy` (too many "
    "waited, or it was long while others did), `unavailable`",
    ("projector",),
    ("result",),
)
QUESTION_TIME: Final = Metric(
    "cutor_question_seconds",
    "histogram",
    "from a question to its answer, with its wait for a turn",
    ("projector",),
    (),
    SECONDS,
)
ANSWER_BYTES: Final = Metric("cutor_question_answer_bytes", "histogram", "bytes of answers", ("projector",), (), ANSWERS)
QUERY_COPIES: Final = Metric(
    "cutor_query_copies_total",
    "counter",
    "copies of the views for questions: of the `log` alone, or of the `file`, too",
    ("projector",),
    ("of",),
)
QUERY_COPIED: Final = Metric("cutor_query_copied_bytes_total", "counter", "bytes that were copied for them", ("projector",))
QUERY_COPY_TIME: Final = Metric(
    "cutor_query_copy_seconds", "histogram", "time of such a copy, until it is open", ("projector",), (), SECONDS
)
SNAPSHOTS: Final = Metric(
    "cutor_snapshots_total", "counter", "files of the views for who asks, or on a schedule: `made` or `failed`",
    ("projector",), ("result",),
)  # fmt: skip
QUERY_STARTS: Final = Metric(
    "cutor_query_service_starts_total", "counter", "times that the process which answers questions was started", ("projector",)
)
QUERY_MEMORY: Final = Metric(
    "cutor_query_memory_bytes",
    "gauge",
    "memory of that process and those that it started; what they share counts once",
    ("projector",),
)
STREAM_MESSAGES: Final = Metric(
    "cutor_stream_messages", "gauge", "messages in a stream; those of DEADLETTERS are no events", ("projector",), ("stream",)
)
STREAM_BYTES: Final = Metric("cutor_stream_bytes", "gauge", "bytes in a stream", ("projector",), ("stream",))
USED: Final = Metric("cutor_jetstream_used_bytes", "gauge", "bytes that JetStream holds on its disk", ("projector",))
LIMIT: Final = Metric(
    "cutor_jetstream_limit_bytes",
    "gauge",
    "bytes that JetStream may hold; absent without a limit",
    ("projector",),
)

SEALED: Final = Metric(
    "cutor_archive_sealed_sequence", "gauge", "the last message of the stream that is sealed", ("archiver",), ("stream",)
)
UNSEALED: Final = Metric(
    "cutor_archive_unsealed_messages", "gauge", "messages of the stream behind that one", ("archiver",), ("stream",)
)
UNSEALED_AGE: Final = Metric(
    "cutor_archive_unsealed_age_seconds",
    "gauge",
    "age of the oldest of them; 0 where all is sealed",
    ("archiver",),
    ("stream",),
)
ARCHIVE_BYTES: Final = Metric("cutor_archive_file_bytes", "gauge", "bytes of the sealed files", ("archiver",), ("stream",))
FOLDED: Final = Metric(
    "cutor_archive_folded_messages",
    "gauge",
    "sealed messages that the sealed fold holds",
    ("archiver",),
)
FOLD_BYTES: Final = Metric("cutor_archive_fold_bytes", "gauge", "bytes of the sealed fold; 0: there is none", ("archiver",))
MISSING: Final = Metric(
    "cutor_archive_missing_messages",
    "gauge",
    "messages that are neither sealed nor in the stream, as somebody acknowledged",
    ("archiver",),
    ("stream",),
)
EXPIRED: Final = Metric(
    "cutor_archive_expired_messages_total", "counter", "sealed messages that the stream was told to let go of",
    ("archiver",), ("stream",),
)  # fmt: skip
ROUND_AT: Final = Metric(
    "cutor_archive_last_success_seconds", "gauge", "when a round last ended with nothing in its way, since 1970", ("archiver",)
)
TROUBLES: Final = Metric(
    "cutor_archive_troubles", "gauge", "what hindered the last round: a gap, a full disk, a stranger's archive …", ("archiver",)
)
ARCHIVE_FREE: Final = Metric("cutor_archive_free_bytes", "gauge", "bytes free on the disk of the archive", ("archiver",))
ARCHIVE_SIZE: Final = Metric("cutor_archive_size_bytes", "gauge", "bytes of the disk of the archive", ("archiver",))

METRICS: Final = (
    *(INFO, READY, CONNECTED, DATA_FREE, DATA_SIZE),
    *(QUEUE, UNACKNOWLEDGED, SLOTS, IN_HAND, POOL_CONTAINERS, LEASES, LEASES_LOST, LEASE_WAIT, EVENTS),
    *(FINISHED, DURATION, STAGE_WALL, STAGE_CPU, STAGE_MEMORY, KILLS, HITS, BUILDS, LOST),
    *(SEQUENCE, BEHIND, WAITS, COMMIT, BATCH, REBUILDS, VIEWS_BYTES, STREAM_MESSAGES, STREAM_BYTES, USED, LIMIT),
    *(SEALED, UNSEALED, UNSEALED_AGE, ARCHIVE_BYTES, FOLDED, FOLD_BYTES, MISSING, EXPIRED, ROUND_AT, TROUBLES),
    *(ARCHIVE_FREE, ARCHIVE_SIZE),
    *(QUESTIONS, QUESTION_TIME, ANSWER_BYTES, QUERY_COPIES, QUERY_COPIED, QUERY_COPY_TIME),
    *(SNAPSHOTS, QUERY_STARTS, QUERY_MEMORY),
)
"""In the order of the page and of what is exposed."""
