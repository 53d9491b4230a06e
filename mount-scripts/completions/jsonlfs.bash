# SPDX-License-Identifier: MIT
# bash completion for jsonlfs(8): its options as it lists them. -*- shell-script -*-

# _jsonlfs_options PROGRAM: NAME, or NAME= and its values, a line each.
_jsonlfs_options() {
	local line name values
	while IFS= read -r line; do
		values=''
		[[ $line =~ \[([a-z,\ -]+)\]\ \(default ]] && values=${BASH_REMATCH[1]//,/}
		line=${line#    -o }
		while [[ $line =~ ^([a-z_]+)(=[A-Z]+)?(,\ )? ]]; do
			name=${BASH_REMATCH[1]}
			line=${line:${#BASH_REMATCH[0]}}
			if [[ -n ${BASH_REMATCH[2]} ]]; then echo "$name= $values"; else echo "$name"; fi
			[[ -n ${BASH_REMATCH[3]} ]] || break
		done
	done < <("$1" -h 2>/dev/null | grep '^    -o ')
}

_jsonlfs() {
	local word=${COMP_WORDS[COMP_CWORD]} i=$COMP_CWORD list='' last done name values
	COMPREPLY=()
	# What = and : have cut is one word again.
	while ((i > 1)) && [[ ${COMP_WORDS[i]} == = || ${COMP_WORDS[i - 1]} == = ||
		${COMP_WORDS[i]} == : || ${COMP_WORDS[i - 1]} == : ]]; do
		list=${COMP_WORDS[i]}$list
		i=$((i - 1))
	done
	list=${COMP_WORDS[i]}$list
	if [[ ${COMP_WORDS[i - 1]} != -o ]]; then
		if [[ $word == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "-o -f -d -s -h --help -V --version" -- "$word")
		else
			mapfile -t COMPREPLY < <(compgen -d -- "$word")
			compopt -o filenames 2>/dev/null
		fi
		return 0
	fi
	last=${list##*,}
	done=${list%"$last"}
	while read -r name values; do
		if [[ $name == *= && $last == "$name"* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "$values" -- "${last#"$name"}")
			# Readline replaces the word behind the =, or all of it.
			[[ $word == = || $word == "${last#"$name"}" ]] || COMPREPLY=("${COMPREPLY[@]/#/$done$name}")
			return 0
		fi
		[[ $name == "$last"* ]] && COMPREPLY+=("$done$name")
	done < <(_jsonlfs_options "${COMP_WORDS[0]}")
	compopt -o nospace 2>/dev/null
	return 0
}

complete -F _jsonlfs jsonlfs
