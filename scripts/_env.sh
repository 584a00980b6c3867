# Sourced by scripts/serve and scripts/test: makes .venv with Python 3.11 and what setup.cfg and constraints.txt name.
# Installs once per content of those files; the second time it only compares a stamp. Sets $root and $venv.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
extras=label,export,scale,test

# Prints the first interpreter that is Python 3.11; says what to do if there is none.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "promptzoo needs Python 3.11: none of python3.11, python3, python is that version." >&2
  echo "Install Python 3.11 with its venv module, or name the interpreter: PYTHON=<python3.11> $0" >&2
  return 1
}

# Prints a digest of everything that decides what is installed, and where.
env_stamp() {
  (cd "$root" && "$1" -c '
import hashlib, sys
digest = hashlib.sha256(" ".join(sys.argv[1:] + [sys.version]).encode())
for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
    digest.update(open(name, "rb").read())
print(digest.hexdigest())' "$venv" "$extras")
}

# Whether .venv holds what the stamp says.
env_is_ready() {
  [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.promptzoo-stamp" 2>/dev/null)" = "$1" ]
}

# Makes .venv and installs into it, in the repository root.
install_env() {
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
  [ -t 2 ] || pip+=(--quiet)
  # A .venv that moved with its folder, or whose interpreter is gone, is made anew.
  if ! "$venv/bin/python" -c 'import os, sys; sys.exit(os.path.realpath(sys.prefix) != sys.argv[1])' "$venv" 2>/dev/null; then
    "$1" -m venv --clear "$venv" || {
      echo "promptzoo: $1 cannot make a virtual environment; install its venv module (Debian: python3.11-venv)." >&2
      return 1
    }
  fi
  # torch goes first, so that its pinned build is there before a package with an open range asks for torch.
  "${pip[@]}" install -c constraints.txt torch==2.13.0 && "${pip[@]}" install -c constraints.txt -e ".[$extras]" || {
    echo "promptzoo: the installation failed; pip's message above says why. Run the same command again to retry." >&2
    return 1
  }
}

# Makes or updates .venv; silent and quick when nothing changed.
ensure_env() {
  local python stamp
  python=$(find_python) && stamp=$(env_stamp "$python") || return 1
  env_is_ready "$stamp" && return 0
  exec 9<"$root/setup.cfg"
  if command -v flock >/dev/null; then flock 9; fi  # a second script waits here while the first installs
  if ! env_is_ready "$stamp"; then
    echo "promptzoo: installing into $venv (about 4 GB, some minutes; again only when setup.cfg or constraints.txt change)" >&2
    (cd "$root" && install_env "$python") >&2 || return 1
    echo "$stamp" > "$venv/.promptzoo-stamp"
  fi
  exec 9<&-
}
