SELECT stream, sequence, epoch_us(time) AS at_us FROM checkpoint ORDER BY stream
