# SPDX-License-Identifier: MIT
# Sourced by quickstart: lines of /etc/fstab, changed in one step or not at all.
# shellcheck shell=bash

fstab_table=/etc/fstab
fstab_before='' # a copy of the table while a change can still be undone

# Characters that a field of fstab cannot hold as they are.
fstab_escape() {
	local s=${1//\\/\\134}
	s=${s// /\\040}
	s=${s//$'\t'/\\011}
	s=${s//$'\n'/\\012}
	printf '%s' "${s//#/\\043}"
}

# Puts standard input in the place of the table. A table that is a mount of its own, as in some
# containers, cannot be replaced: it is written.
fstab_replace() {
	local table new
	table=$(realpath -m -- "$fstab_table")
	new=$(mktemp "$table.XXXXXX")
	cat >"$new"
	if [ -e "$table" ]; then
		chown --reference="$table" -- "$new"
		chmod --reference="$table" -- "$new"
	else
		chmod 644 -- "$new"
	fi
	sync -- "$new"
	if ! mv -T -- "$new" "$table" 2>/dev/null; then
		cat -- "$new" >"$table"
		rm -f -- "$new"
	fi
}

# Prints the table without the lines for DIR ("": of any directory) whose type is jsonlfs.
fstab_without() {
	[ ! -e "$fstab_table" ] || FIELD=$(fstab_escape "$1") awk '
		$1 !~ /^#/ && $3 ~ /^(fuse\.)?jsonlfs$/ &&
		(ENVIRON["FIELD"] == "" || $2 == ENVIRON["FIELD"]) { next }
		{ print }' "$fstab_table"
}

fstab_lines() {
	[ ! -e "$fstab_table" ] || FIELD=$(fstab_escape "$1") awk '
		$1 !~ /^#/ && $3 ~ /^(fuse\.)?jsonlfs$/ &&
		(ENVIRON["FIELD"] == "" || $2 == ENVIRON["FIELD"])' "$fstab_table"
}

# fstab_add DIR OPTIONS: a line for DIR. One that is there stays, unless other options are
# asked for. fstab_undo takes the change back, fstab_keep makes it final.
fstab_add() {
	local field line there
	say "Writing the line into $fstab_table"
	field=$(fstab_escape "$1")
	line="$field $field jsonlfs defaults,nofail${2:+,$(fstab_escape "$2")} 0 0"
	there=$(fstab_lines "$1")
	if [ -n "$there" ] && { [ -z "$2" ] || [ "$there" = "$line" ]; }; then
		note "there already: $there"
		return
	fi
	fstab_before=$(mktemp)
	[ ! -e "$fstab_table" ] || cat -- "$fstab_table" >"$fstab_before"
	trap 'fstab_undo; exit 130' INT TERM HUP
	{ fstab_without "$1" && printf '%s\n' "$line"; } | fstab_replace
	[ -z "$there" ] || note "it was: $there"
	note "$line"
}

fstab_undo() {
	[ -n "$fstab_before" ] || return 0
	fstab_replace <"$fstab_before"
	fstab_keep
	note "took the line out of $fstab_table again"
}

fstab_keep() {
	[ -n "$fstab_before" ] || return 0
	rm -f -- "$fstab_before"
	fstab_before=''
	trap - INT TERM HUP
}

# fstab_remove DIR ("": all of jsonlfs)
fstab_remove() {
	local lines
	lines=$(fstab_lines "$1")
	if [ -z "$lines" ]; then
		note "there is none"
		return
	fi
	fstab_without "$1" | fstab_replace
	while IFS= read -r line; do
		note "removed: $line"
	done <<<"$lines"
}
