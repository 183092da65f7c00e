#: what = "what one submission's compile step makes is seen by no other submission"
#: stage = "compile"
#: then = "echo ran; cat built; echo more >> built"
#: test_cases = [{}, {}]
#: submissions = 2
#: has = ["ran\nonce\n"]
#: lacks = ["FOUND", "more"]
[ -e built ] && echo FOUND
echo once > built
