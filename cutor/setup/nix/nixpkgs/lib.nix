# The part of nixpkgs' `lib` that a shell.nix is likely to use, with the same names and meanings.
let
  inherit (builtins) attrNames concatLists elem filter head isList length listToAttrs map replaceStrings
    stringLength substring tail;
in
rec {
  inherit (builtins) all any attrNames attrValues catAttrs compareVersions concatLists concatMap concatStringsSep
    elem elemAt filter foldl' genList getEnv hasAttr head intersectAttrs isAttrs isBool isFunction isInt isList
    isString length listToAttrs map mapAttrs removeAttrs replaceStrings seq split stringLength substring tail
    toJSON trace;

  # functions
  id = x: x;
  const = x: _: x;
  flip = f: a: b: f b a;
  pipe = foldl' (x: f: f x);
  fix = f: let x = f x; in x;
  extends = overlay: f: final: let prev = f final; in prev // overlay final prev;
  importJSON = path: builtins.fromJSON (builtins.readFile path);

  # lists
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: xs: if condition then xs else [ ];
  singleton = x: [ x ];
  toList = x: if isList x then x else [ x ];
  flatten = x: if isList x then builtins.concatMap flatten x else [ x ];
  last = xs: builtins.elemAt xs (length xs - 1);
  range = first: final: if first > final then [ ] else builtins.genList (n: first + n) (final - first + 1);
  reverseList = xs: let n = length xs; in builtins.genList (i: builtins.elemAt xs (n - 1 - i)) n;
  subtractLists = unwanted: filter (x: !elem x unwanted);
  unique = foldl' (found: x: if elem x found then found else found ++ [ x ]) [ ];

  # sets
  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  filterAttrs = keep: set: listToAttrs (concatLists
    (map (name: optional (keep name set.${name}) (nameValuePair name set.${name})) (attrNames set)));
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  optionalAttrs = condition: set: if condition then set else { };
  attrByPath = path: default: set:
    if path == [ ] then set
    else if builtins.isAttrs set && set ? ${head path} then attrByPath (tail path) default set.${head path}
    else default;

  # strings
  optionalString = condition: text: if condition then text else "";
  concatStrings = builtins.concatStringsSep "";
  concatMapStrings = f: xs: concatStrings (map f xs);
  concatMapStringsSep = separator: f: xs: builtins.concatStringsSep separator (map f xs);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix = suffix: text:
    let n = stringLength text - stringLength suffix;
    in n >= 0 && substring n (stringLength suffix) text == suffix;
  removePrefix = prefix: text: if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  removeSuffix = suffix: text:
    if hasSuffix suffix text then substring 0 (stringLength text - stringLength suffix) text else text;
  escapeShellArg = argument: "'" + replaceStrings [ "'" ] [ "'\\''" ] (toString argument) + "'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  boolToString = condition: if condition then "true" else "false";
  fileContents = path: removeSuffix "\n" (builtins.readFile path);
  splitString = separator: text:
    filter builtins.isString (builtins.split (escapeRegex separator) text);
  escapeRegex = replaceStrings
    [ "\\" "[" "{" "(" ")" "^" "$" "?" "*" "+" "|" "." ]
    [ "\\\\" "\\[" "\\{" "\\(" "\\)" "\\^" "\\$" "\\?" "\\*" "\\+" "\\|" "\\." ];

  # packages
  getBin = package: package.bin or package.out or package;
  getLib = package: package.lib or package.out or package;
  getDev = package: package.dev or package.out or package;
  getExe' = package: name: "${getBin package}/bin/${name}";
  getExe = package: getExe' package (package.meta.mainProgram or package.pname or package.name);
  makeSearchPath = directory: packages: concatMapStringsSep ":" (package: "${package}/${directory}") packages;
  makeBinPath = packages: makeSearchPath "bin" (map getBin packages);
  makeLibraryPath = packages: makeSearchPath "lib" (map getLib packages);

}
