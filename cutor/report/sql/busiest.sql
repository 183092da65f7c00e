-- The minute in which most was submitted, and the one in which most ended.
SELECT what, minute * 60 AS begin_s, count
FROM (
    SELECT 'submitted' AS what, epoch_us(submitted_at) // 60000000 AS minute, count(*) AS count FROM chosen GROUP BY minute
    UNION ALL
    SELECT 'ended', epoch_us(finished_at) // 60000000 AS minute, count(*) FROM chosen WHERE finished_at IS NOT NULL GROUP BY minute
)
QUALIFY row_number() OVER (PARTITION BY what ORDER BY count DESC, minute) = 1
ORDER BY what
