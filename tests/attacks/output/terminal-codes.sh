#: what = "control sequences for terminals, and half a character, are output like any other"
#: has = ["\u001b[2J"]
printf '\033[2J\033]0;owned\007\302'
