-- The labels that most submissions have, each with how those ended; beside them how many labels there are.
WITH pairs AS (
    SELECT unnest(map_entries(labels)) AS label, outcome FROM submissions SEMI JOIN chosen USING (first_sequence)
), counted AS (
    SELECT label, outcome, count(*) AS count FROM pairs GROUP BY label, outcome
), summed AS (
    SELECT label, sum(count)::BIGINT AS submissions, list({'outcome': outcome, 'count': count}) AS outcomes
    FROM counted
    GROUP BY label
)
SELECT
    label.key AS name,
    label.value AS value,
    submissions,
    outcomes,
    count(*) OVER () AS labels
FROM summed
ORDER BY submissions DESC, name, value
LIMIT 16
