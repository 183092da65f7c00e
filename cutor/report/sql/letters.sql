-- Dead letters belong to no submission for certain: of the whole stack, in the report's time.
SELECT stream, left(reason, 400) AS reason, count(*) AS count, epoch_us(max(time)) AS last_us, sum(count(*)) OVER ()::BIGINT AS letters
FROM dead_letters
WHERE ($since_us::BIGINT IS NULL OR time >= make_timestamp($since_us::BIGINT))
  AND ($until_us::BIGINT IS NULL OR time < make_timestamp($until_us::BIGINT))
GROUP BY stream, reason
ORDER BY count DESC, reason
LIMIT 12
