SELECT outcome, count(*) AS count FROM chosen GROUP BY outcome ORDER BY count DESC, outcome
