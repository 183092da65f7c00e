#: what = "a builder that fills the disk of the store behind the ends of empty files"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["FSE"]
#: says = ["to the store (nix.store_bytes)"]
#: limits.dependencies.wall_time_ms = 60000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  filled = pkgs.runCommand "reserves-@TOKEN@" { } ''
    mkdir $out
    ${pkgs.python3}/bin/python3 -c 'import ctypes, os, time
    os.chdir(os.environ["out"])
    libc = ctypes.CDLL(None)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    for n in range(80):
        file = os.open(str(n), os.O_CREAT | os.O_RDWR)
        assert libc.fallocate(file, 1, 0, 20 << 20) == 0  # FALLOC_FL_KEEP_SIZE
    time.sleep(60)'
  '';
}
