INSERT INTO folds.moving BY NAME
SELECT
    texts[1] AS tenant,
    texts[2] AS id,
    heads[1] AS last_sequence,
    numbers,
    if(heads[2] IS NULL, NULL, {'role': texts[3], 'worker': texts[4], 'token': texts[5], 'number': heads[2]}) AS lease
FROM small_moving;
