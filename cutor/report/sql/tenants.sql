SELECT
    tenant AS name,
    count(*) AS submissions,
    count(outcome) AS ended,
    count(*) FILTER (outcome = 'OK') AS ok,
    quantile_disc(epoch_us(finished_at) - epoch_us(submitted_at), [0.5, 0.9]) FILTER (
        outcome NOT IN ('CANCELLED', 'REJECTED', 'PARKED')
    ) AS whole_us
FROM chosen
GROUP BY tenant
ORDER BY submissions DESC, name
LIMIT 10
