#: what = "a file that is the directory of another"
#: files = { "a" = "x", "a/b" = "y" }
#: refused = "is a file and the directory of"
#: unchecked = true
echo ran
