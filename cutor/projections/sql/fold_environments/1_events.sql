-- Every message of ENVIRONMENTS becomes a row, whatever it is; the view `environments` does the rest. `incoming_environments` is a
-- batch, read (`cutor.projections.folds.incoming_environments`).
INSERT INTO environment_events BY NAME
SELECT *, utc(time_ns) AS time FROM incoming_environments ORDER BY sequence;
