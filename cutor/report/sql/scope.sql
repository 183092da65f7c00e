SELECT
    count(*) AS submissions,
    count(outcome) AS ended,
    count(*) FILTER (outcome = 'OK') AS ok,
    count(DISTINCT tenant) AS tenants,
    epoch_us(min(submitted_at)) AS first_us,
    epoch_us(max(greatest(submitted_at, coalesce(finished_at, submitted_at)))) AS last_us
FROM chosen
