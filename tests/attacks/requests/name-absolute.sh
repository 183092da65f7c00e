#: what = "a file with an absolute name"
#: files = { "/etc/passwd" = "x" }
#: refused = "is absolute"
#: unchecked = true
echo ran
