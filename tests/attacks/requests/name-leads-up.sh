#: what = "a file whose name leads out of the box"
#: files = { "../evil" = "x" }
#: refused = "has the segment '..'"
#: unchecked = true
echo ran
