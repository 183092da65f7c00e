SELECT stages.stage, stages.outcome, count(*) AS count
FROM stages
JOIN chosen USING (tenant, id)
WHERE is_current
GROUP BY stages.stage, stages.outcome
ORDER BY stage, count DESC, stages.outcome
