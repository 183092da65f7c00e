-- How many submissions took how long, in ten classes a power of ten of milliseconds.
SELECT
    coalesce(environment_hit, FALSE) AS hit,
    floor(10 * log10(greatest(epoch_us(finished_at) - epoch_us(submitted_at), 1000) / 1000.0))::BIGINT AS class,
    count(*) AS count
FROM chosen
WHERE outcome NOT IN ('CANCELLED', 'REJECTED', 'PARKED')
GROUP BY hit, class
ORDER BY class, hit
