INSERT INTO folds.ends BY NAME
SELECT
    numbers[1] AS sequence,
    utc(numbers[2]) AS time,
    texts[1] AS outcome,
    texts[2] AS message,
    texts[3] AS parked_stage
FROM small_ends;
