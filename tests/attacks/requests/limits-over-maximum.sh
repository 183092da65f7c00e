#: what = "limits over what the deployer allows"
#: limits.run.memory_bytes = 1099511627776
#: refused = "more than the maximum of"
#: unchecked = true
echo ran
