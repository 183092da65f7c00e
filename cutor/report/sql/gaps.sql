SELECT stream, sum(to_sequence - from_sequence + 1)::BIGINT AS messages FROM gaps GROUP BY stream ORDER BY stream
