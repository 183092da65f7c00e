#: what = "fetching addresses inside"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["is forbidden"]
import (builtins.fetchurl "http://169.254.169.254/latest/meta-data")
