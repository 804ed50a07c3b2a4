# Sourced by run and slow. Sets: root, scratch (removed at exit), copy; and an environment of its own.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
copy=$scratch/fastnn

unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_QUIET=2 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export FASTNN_CACHE_DIR=$scratch/kernels
if [ -z "${FASTNN_DATA:-}" ] && [ -d "$root/../shared/data" ]; then
    FASTNN_DATA=$(cd "$root/../shared/data" && pwd)
    export FASTNN_DATA
fi

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

# clean_copy FOLDER: the tracked and the unignored files, committed in a repository of their own.
clean_copy() {
    mkdir -p "$1"
    git -C "$root" -c safe.directory="$root" ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' name; do
            if [ -e "$root/$name" ]; then printf '%s\0' "$name"; fi
        done |
        tar -C "$root" --null -T - -cf - | tar -C "$1" -xf -
    git -C "$1" init -q -b main
    git -C "$1" add -A
    git -C "$1" -c user.name=ci -c user.email=ci@localhost commit -q -m "The tree under test"
}

# readme_command NAME: the command in the sh block below `<!-- ci: NAME -->` in README.md.
readme_command() {
    local command
    command=$(tr -d '\r' <"$root/README.md" | awk -v mark="<!-- ci: $1 -->" '
        $0 == mark { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside')
    if [ -z "$command" ]; then
        echo "README.md has no command marked 'ci: $1'" >&2
        return 1
    fi
    case $OSTYPE in msys* | cygwin*) command=${command//.venv\/bin\//.venv/Scripts/} ;; esac
    printf '%s\n' "$command"
}

# in_copy COMMAND: run it as a user would, in the copy, and show it.
in_copy() {
    printf '$ %s\n' "$1"
    (cd "$copy" && bash -euo pipefail -c "$1" </dev/null)
}

# set_up_tests: the copy, and in it the README's test command up to the tests; then torch, which judges some of them.
# Sets: bin, run_tests.
set_up_tests() {
    local command
    command=$(readme_command test)
    run_tests=${command##* && }
    bin=${run_tests%%/python *}
    step "set up"
    clean_copy "$copy"
    in_copy "${command% && *}"
    # before torch, which brings packages of its own: the extras alone must do
    in_copy "$bin/python -m pytest --collect-only -q >../collected || { cat ../collected; exit 1; }"
    if [ "${FASTNN_CI_TORCH:-1}" = 1 ]; then in_copy "$bin/pip install torch==2.13.0"; fi
}

# set_up_benchmarks: asv; where npm is there the scripts of its pages, for the tests; a browser where CI may install one.
set_up_benchmarks() {
    in_copy "$bin/pip install -e '.[bench]'"
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } ||
            echo "no Chromium to install: the pages are not opened"
    fi
    if command -v npm >/dev/null; then in_copy "cd asv_bench && npm ci --ignore-scripts --silent"; fi
}

# set_up_cuda FOLDER: a copy there, with an environment of its own: the other tests run without numba-cuda.
set_up_cuda() {
    copy=$1
    clean_copy "$copy"
    in_copy "python3 -m venv .venv && .venv/bin/pip install -e '.[test,cu13]' nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
}
