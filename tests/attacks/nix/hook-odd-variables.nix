#: what = "a hook whose variables would be options, scripts and several lines elsewhere"
#: files = { evil = "[ -e /opt/cutor ] && echo REACHED" }
#: then = "printf %s\\\\n \"$A\" > /dev/null; echo ran"
#: has = ["ran"]
#: lacks = ["REACHED\n"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    export BASH_ENV=/box/evil ENV=/box/evil PS4='$(echo REACHED)' SHELLOPTS BASHOPTS IFS=x
    export A='; echo REACHED' B='--disable_rlimits' C=$(printf 'a\nb\n\nc') PYTHONSTARTUP=/box/evil PROMPT_COMMAND='echo REACHED'
    cutor() { echo REACHED; }
    export -f cutor
  '';
}
