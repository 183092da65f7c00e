-- What was submitted and what ended, how often in every piece of the time; the pieces are such that there are 72 at the most.
WITH extent AS (
    SELECT
        epoch_us(min(submitted_at)) AS first_us,
        epoch_us(max(greatest(submitted_at, coalesce(finished_at, submitted_at)))) AS last_us
    FROM chosen
), piece AS (
    SELECT coalesce(list_filter(
        [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800, 2592000, 7776000],
        lambda seconds: (last_us - first_us) / 1000000 <= 70 * seconds
    )[1], 31536000) AS seconds
    FROM extent
), happened AS (
    SELECT 'submitted' AS what, epoch_us(submitted_at) // 1000000 AS moment_s FROM chosen
    UNION ALL
    SELECT outcome, epoch_us(finished_at) // 1000000 FROM chosen WHERE finished_at IS NOT NULL
)
SELECT
    seconds,
    -- pieces of a week begin on Mondays
    (moment_s - if(seconds = 604800, 345600, 0)) // seconds * seconds + if(seconds = 604800, 345600, 0) AS begin_s,
    what,
    count(*) AS count
FROM happened, piece
GROUP BY ALL
ORDER BY begin_s, what
