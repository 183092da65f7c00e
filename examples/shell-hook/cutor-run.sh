printf '[%s]\n' "$GREETING" "$POEM" "$SPACED"
