#: what = "a link in place of the run script leads nowhere but into the jail"
#: stage = "compile"
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
#: lacks = ["root:"]
rm cutor-run.sh
ln -s /proc/1/root/etc/shadow cutor-run.sh
