#: what = "the same id and body, handed in by many at once, is one submission"
#: duplicates = 30
#: has = ["once"]
echo once
