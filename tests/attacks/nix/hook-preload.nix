#: what = "LD_PRELOAD of the hook is the program's own: nothing of cutor's loads it"
#: before = "unset LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH; exec gcc -shared -fPIC -o evil.so evil.c"
#: then = "exec python3 -c 'print(6 * 7)'"
#: has = ["42"]
#: lacks = ["REACHED"]
#: [files]
#: "evil.c" = """
#: #include <unistd.h>
#: __attribute__((constructor)) static void loaded(void)
#: {
#:     if (getuid() != 1000 || access("/opt/cutor", F_OK) == 0)
#:         write(1, "REACHED", 7);
#: }
#: """
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  packages = [ pkgs.gcc pkgs.python3 ];
  shellHook = "export LD_PRELOAD=/box/evil.so LD_LIBRARY_PATH=/box LD_AUDIT=/box/evil.so";
}
