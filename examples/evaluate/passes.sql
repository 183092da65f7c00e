-- How likely is it that one of k samples solves a problem, of n that were drawn and c that are right? One minus the chance
-- that all k are wrong: 1 - C(n - c, k) / C(n, k). Each model's average over the problems.
WITH samples AS (
    SELECT labels['model'] AS model, labels['problem'] AS problem,
           count(*)::INT AS n, count(*) FILTER (outcome = 'OK')::INT AS c
    FROM submissions
    WHERE labels['evaluation'] = 'first' AND caused_by IS NULL
    GROUP BY ALL
)
SELECT model, sum(n)::INT AS programs, sum(c)::INT AS solved, round(avg(c / n), 3) AS "pass@1",
       round(avg(CASE WHEN n - c < 3 THEN 1
                      ELSE 1 - (n - c) * (n - c - 1) * (n - c - 2) / (n * (n - 1) * (n - 2)) END), 3) AS "pass@3"
FROM samples
GROUP BY model
ORDER BY model
