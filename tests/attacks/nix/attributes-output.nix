#: what = "an output with capabilities, access lists and attributes of its own"
#: then = "cat $tool; python3 -c 'import os; print(os.listxattr(os.environ[\"tool\"]))'"
#: has = ["tried", "[]"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  packages = [ pkgs.python3 ];
  tool = pkgs.runCommand "attributes-@TOKEN@" { } ''
    ${pkgs.python3}/bin/python3 -c 'import os
    path = os.environ["out"]
    open(path, "w").write("tried")
    for name, value in {"user.x": bytes(100), "security.capability": bytes(20), "system.posix_acl_access": b"\2\0\0\0"}.items():
        try: os.setxattr(path, name, value)
        except OSError as error: print(name, error)'
  '';
}
