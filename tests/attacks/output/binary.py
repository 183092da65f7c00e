#: what = "every byte there is, NUL among them, comes out as it went in"
#: compare = "exact"
#: [[test_cases]]
#: encoding = "hex"
#: input = "000102030405060708090a0b0c0d0e0f10111213141516171819ff00fe80c3280a0d00"
#: expected_output = "000102030405060708090a0b0c0d0e0f10111213141516171819ff00fe80c3280a0d00"
import sys

sys.stdout.buffer.write(sys.stdin.buffer.read())
