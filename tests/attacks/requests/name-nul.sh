#: what = "a file with a NUL character in its name"
#: files = { "a\u0000b" = "x" }
#: refused = "NUL character"
#: unchecked = true
echo ran
