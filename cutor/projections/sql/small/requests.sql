INSERT INTO folds.requests BY NAME
SELECT
    numbers[1] AS sequence,
    utc(numbers[2]) AS time,
    numbers[3] <> 0 AS compiles,
    texts[1] AS digest,
    texts[2] AS caused_by,
    labels,
    test_case_names
FROM small_requests;
