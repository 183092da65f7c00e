#: what = "a file whose name leads out of the box from the middle"
#: files = { "a/../../evil" = "x" }
#: refused = "has the segment '..'"
#: unchecked = true
echo ran
