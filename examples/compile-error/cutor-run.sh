exec ./hello
