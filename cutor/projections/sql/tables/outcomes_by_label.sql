-- One row a label, value and outcome.
CREATE VIEW outcomes_by_label AS
SELECT label.key AS label, label.value AS value, outcome, count(*) AS submissions
FROM (SELECT unnest(map_entries(labels)) AS label, outcome FROM submissions) AS labelled
GROUP BY ALL;
COMMENT ON VIEW outcomes_by_label IS 'How the submissions with a label ended; one with several labels counts for each';
COMMENT ON COLUMN outcomes_by_label.label IS 'Name of the label';
COMMENT ON COLUMN outcomes_by_label.value IS 'Its value';
COMMENT ON COLUMN outcomes_by_label.outcome IS 'Outcome of the submissions; null for those that have not ended';
COMMENT ON COLUMN outcomes_by_label.submissions IS 'Submissions with that label, value and outcome';
