#!/bin/sh
# Checks the wording of comments, documents, messages and identifiers against words.txt, and prints each line to change.
# Needs only sh, grep, awk and git.
set -eu
cd "$(dirname "$0")/.."

list=.ci/words.txt
allowed=.ci/words-allowed.txt
found=$(mktemp)
trap 'rm -f "$found" "$found.files"' EXIT
tab=$(printf '\t')

# Lists the tracked text files, without lock files.
git ls-files -- '*.rs' '*.lua' '*.md' '*.toml' '*.sh' '*.sql' '*.py' '*.js' '*.mjs' '*.ts' '*.yml' '*.yaml' '*.html' 'Makefile' \
    ':!*.lock' ':!*/package-lock.json' ':!*/requirements.txt' >"$found.files"

grep -v -e '^#' -e '^$' "$list" | while IFS="$tab" read -r pattern advice; do
    # A pattern that begins with = is matched with regard to case.
    case $pattern in
    =*) flags=-nHE pattern=${pattern#=} ;;
    *) flags=-nHEi ;;
    esac
    # shellcheck disable=SC2086 # two flags in one word
    xargs grep $flags -e "$pattern" <"$found.files" 2>/dev/null | sed "s|\$|$tab$advice|" >>"$found" || true
done

awk -F '\t' -v allowed="$allowed" '
    BEGIN {
        while ((getline line < allowed) > 0) {
            if (line ~ /^#/ || line == "") continue
            split(line, part, "\t"); count++; path[count] = part[1]; text[count] = part[2]
        }
    }
    {
        file = $0; sub(/:.*/, "", file)
        for (i = 1; i <= count; i++) {
            hit = (file == path[i]) || (path[i] ~ /\/$/ && index(file, path[i]) == 1)
            if (hit && (text[i] == "*" || index($0, text[i]))) next
        }
        # The last field is the advice, which is printed on a line of its own.
        line = $0; sub(/\t[^\t]*$/, "", line)
        print line "\n    -> " $NF; bad++
    }
    END {
        if (bad) { print "lines to reword: " bad " (.ci/words.txt; exceptions: .ci/words-allowed.txt)" > "/dev/stderr"; exit 1 }
    }' "$found"
