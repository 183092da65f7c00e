SELECT role, count(*) FILTER (NOT leased) AS waiting, count(*) FILTER (leased) AS in_hand
FROM in_progress
SEMI JOIN chosen USING (tenant, id)
GROUP BY role
ORDER BY role
