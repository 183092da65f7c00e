"""Hostile submissions, a file each with what must come of it; ``runner`` tries them on a stack."""
