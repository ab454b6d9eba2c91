# Debian's packages, for the scripts that prepare machines below $rig. Sourced.
# A machine that cannot have them is no failure of the project: the scripts then end with 69 (EX_UNAVAILABLE), and the last
# line of their standard output says why.
lacks() { echo "$*"; exit 69; }

# A mirror that answers slowly, or never, must not stop a run for ever.
bounded() { # PROGRAM ARG…; in the foreground, so that a limit of all that is done here ends it too
  timeout --foreground -k 10 600 "$1" -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o DPkg::Lock::Timeout=120 "${@:2}"
}

mirror() { # the one that this machine's own sources name
  local uri; uri=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -1) || true
  echo "$uri"
}

# One preparation at a time: the lock is held until this process and those that it started have ended. Removes what a killed one left.
alone() {
  mkdir -p "$rig"; exec 8>"$rig/lock"
  flock -w 600 8 || lacks "another preparation in $rig does not end"
  rm -rf "$rig"/*.tmp "$rig"/fetching.*
}

# Packages get their names in FOLDER once they are whole: apt checks their sums, and a run may be killed at any time.
fetch() { # FOLDER [apt-get's OPTION…] -- PACKAGE…
  local folder=$1 options=() new rc=0; shift
  while [ "$1" != -- ]; do options+=("$1"); shift; done; shift
  new=$(mktemp -d "$rig/fetching.XXXXXX") || return
  { (cd "$new" && bounded apt-get -q "${options[@]}" download "$@" >/dev/null 2>"$rig/apt.log") && mv "$new"/*.deb "$folder/"; } || rc=$?
  rm -rf "$new"; return $rc
}

refresh() { # [apt-get's OPTION…]: the lists
  bounded apt-get -q "$@" update >/dev/null 2>"$rig/apt.log"
}

# What apt-get says is wrong.
complaint() { sed -n 's/^E: //p' "$rig/apt.log" | tail -1; }
