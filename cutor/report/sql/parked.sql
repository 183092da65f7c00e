SELECT
    tenant,
    id,
    parked_stage AS stage,
    left(message, 400) AS message,
    epoch_us(finished_at) AS parked_us,
    count(*) OVER () AS parked
FROM submissions
SEMI JOIN chosen USING (first_sequence)
WHERE outcome = 'PARKED'
ORDER BY finished_at DESC, id
LIMIT 12
