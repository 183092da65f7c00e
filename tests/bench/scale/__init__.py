"""What a submission costs by how many came before it, and by how many environments there are: ``make bench-scale``."""
