INSERT INTO folds.builds BY NAME
SELECT
    numbers[1] AS sequence,
    utc(numbers[2]) AS time,
    numbers[3] <> 0 AS hit,
    texts[1] AS key,
    texts[2] AS derivation
FROM small_builds;
