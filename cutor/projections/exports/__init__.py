"""The views as files for others: made of the copy that queries read, given away in pieces or published on a schedule."""
