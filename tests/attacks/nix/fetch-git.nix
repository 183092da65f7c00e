#: what = "fetching a repository of this host"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
import (builtins.fetchGit { url = "file:///packages"; rev = "0000000000000000000000000000000000000000"; })
