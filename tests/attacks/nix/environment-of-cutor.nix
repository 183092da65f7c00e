#: what = "an evaluation and a hook that look for variables of cutor's, of its server and its image"
#: then = "echo $ANSWER; env"
#: has = ["evaluated ."]
#: lacks = ["nats://", "CUTOR", "DOCKER", "NIX_CONFIG", "NIX_REMOTE", "NIX_DAEMON", "MALLOC_"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  ANSWER = "evaluated ${builtins.concatStringsSep "" (map builtins.getEnv [ "CUTOR_SERVER" "CUTOR_IN_NAMESPACE" "NIX_CONFIG" "DOCKER_HOST" ])}.";
  shellHook = "export EVERYTHING=\"$(env)\"";
}
