# SPDX-License-Identifier: MIT
# Sourced by quickstart, tests/run and .ci/run: saying what is done, and Debian packages.
# shellcheck shell=bash

say() {
	printf '==> %s\n' "$*"
}

note() {
	printf '    %s\n' "$*"
}

fail() {
	printf '!!! %s\n' "$1" >&2
	shift
	for line in "$@"; do
		printf '    %s\n' "$line" >&2
	done
	exit 1
}

package_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Prints those of its arguments that are not installed.
packages_missing() {
	local package
	for package in "$@"; do
		package_installed "$package" || printf '%s\n' "$package"
	done
}

# Installs what is missing of its arguments, and nothing else. Says what is missing, and how
# to get it, where that cannot be done.
need_packages() {
	local missing
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		fail "This is no Debian system: apt-get is missing." \
			"Install by hand what these Debian packages hold: $*"
	fi
	mapfile -t missing < <(packages_missing "$@")
	if [ "${#missing[@]}" -eq 0 ]; then
		note "all packages are there"
		return
	fi
	note "missing: ${missing[*]}"
	[ "$(id -u)" -eq 0 ] ||
		fail "Only root can install packages." \
			"sudo apt-get install ${missing[*]}"
	apt_install "${missing[@]}"
}

apt_install() {
	local log
	log=$(mktemp)
	if ! (without_services install_or_update "$@") >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		fail "apt-get could not install: $*"
	fi
	rm -f "$log"
	note "installed"
}

install_or_update() {
	apt_quietly install "$@" || { apt_quietly update && apt_quietly install "$@"; }
}

# In a subshell: runs a command, during which packages start no services.
without_services() {
	local policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		trap 'exit 130' INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
	fi
	"$@"
}

apt_quietly() {
	DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 \
		-o DPkg::Lock::Timeout=120 --no-install-recommends "$@"
}

# fusermount3 reads /etc/mtab to unmount. Every installed Debian has it, a bare chroot may not.
need_mtab() {
	[ ! -e /etc/mtab ] || return 0
	[ "$(id -u)" -eq 0 ] ||
		fail "/etc/mtab is missing: fusermount3 could not unmount." \
			"sudo ln -s ../proc/self/mounts /etc/mtab"
	ln -s ../proc/self/mounts /etc/mtab
	note "made /etc/mtab, for fusermount3"
}

# What building takes.
# shellcheck disable=SC2034
BUILD_PACKAGES=(gcc libc6-dev meson ninja-build pkgconf libfuse3-dev libjson-c-dev)
# And what the tests of the modules take, which build-deb runs, too.
# shellcheck disable=SC2034
UNIT_PACKAGES=(python3 python3-pytest python3-hypothesis)
