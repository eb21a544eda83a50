#!/usr/bin/env bash
# Sets a Debian 12 machine up: system packages through apt, and a virtual environment with torch.
# Skips what is there already, so it can run before every build.
#
#   setup.sh            what building, testing and the demo need
#   setup.sh kernels    what ecoformer::kernels alone needs; no Python
#   setup.sh arm        a compiler for 64-bit Arm, qemu, and in build-aarch64/debian the libraries for it
#   setup.sh dev        the formatter, the linter, clang with its fuzzer runtime, ccache
set -euo pipefail
cd "$(dirname "$0")/.."

kernels=(cmake g++ ninja-build libhwy-dev libgtest-dev libgmock-dev)
everything=("${kernels[@]}" gnuplot-nox libbenchmark-dev libcli11-dev libfmt-dev libgoogle-perftools-dev
  libjpeg62-turbo-dev libpng-dev nlohmann-json3-dev python3-venv)
arm=(cmake g++-aarch64-linux-gnu ninja-build qemu-user)
arm_libraries=(libgmock-dev libgtest-dev libhwy-dev libhwy1)
dev=(ccache clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev)

# install_packages NAME...: installs those that are missing.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "setup: no apt-get here; expected the equivalents of: $*" >&2
    return
  fi
  local missing=() package
  for package in "$@"; do
    if [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then return; fi

  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "setup: expected to be root or to have sudo, got neither" >&2
      echo "hint: as root, run: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "setup: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# unpack_arm_libraries FOLDER: unpacks them there, as the last step. apt is told that this machine were
# arm64, with state of its own, so that the machine's list of architectures stays as it is.
unpack_arm_libraries() {
  if [[ -d "$1" ]]; then return; fi
  echo "setup: unpacking ${arm_libraries[*]} for arm64 into $1"
  local work=$1.part package
  rm -rf "$work"
  mkdir -p "$work"/{apt/lists/partial,apt/archives/partial,root}
  work=$(realpath "$work")
  touch "$work/apt/status"
  cat >"$work/apt/apt.conf" <<EOF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$work/apt";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
EOF
  export APT_CONFIG=$work/apt/apt.conf
  apt-get update -qq
  (cd "$work/apt" && apt-get download -qq "${arm_libraries[@]}")
  unset APT_CONFIG
  for package in "$work"/apt/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
  mv "$work/root" "$1"
  rm -rf "$work"
}

# The stamp is a copy of the requirements it was installed from, written last.
install_python() {
  local stamp=.venv/requirements.txt
  if cmp -s scripts/requirements.txt "$stamp"; then return; fi
  echo "setup: installing $(grep -v '^#' scripts/requirements.txt | paste -sd ' ') into .venv"
  # Debian's own Python: python3-venv belongs to it, and another one may come first on the PATH.
  if [[ ! -x .venv/bin/pip ]]; then /usr/bin/python3 -m venv --clear .venv; fi
  .venv/bin/python -m pip install --disable-pip-version-check -r scripts/requirements.txt
  cp scripts/requirements.txt "$stamp"
}

case "${1:-}" in
  "")
    install_packages "${everything[@]}"
    install_python
    ;;
  kernels)
    install_packages "${kernels[@]}"
    ;;
  arm)
    install_packages "${arm[@]}"
    unpack_arm_libraries build-aarch64/debian
    ;;
  dev)
    install_packages "${everything[@]}" "${dev[@]}"
    install_python
    ;;
  *)
    echo "setup.sh: expected nothing, 'kernels', 'arm' or 'dev', got '$1'" >&2
    exit 2
    ;;
esac
