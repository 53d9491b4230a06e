# SPDX-License-Identifier: MIT
# bash completion for jsonlfsctl(1). -*- shell-script -*-

_jsonlfsctl_limits="--match= --exclude= --generations= --config="
_jsonlfsctl_records="--maxdepth= --maxrecord= --pipebuf= --value= --oversize= --blank="

_jsonlfsctl_options() {
	case $1 in
	append) echo "--sync= --text-as= --help" ;;
	archive) echo "--json --as= --all --older-than= --owner= --state= --help" ;;
	check) echo "--json --all --jobs= --output= --help $_jsonlfsctl_limits $_jsonlfsctl_records" ;;
	config) echo "--json -o --help" ;;
	replace) echo "--empty --state= --help" "$_jsonlfsctl_limits $_jsonlfsctl_records" ;;
	edit) echo "--state= --help" "$_jsonlfsctl_limits $_jsonlfsctl_records" ;;
	delete-record) echo "--line= --state= --help" \
		"$_jsonlfsctl_limits $_jsonlfsctl_records" ;;
	quarantine) echo "--json --state= --edited= --again --all --older-than= --owner= --help" \
		"$_jsonlfsctl_limits $_jsonlfsctl_records" ;;
	reap) echo "--keep= --older-than= --dry-run -n --help $_jsonlfsctl_limits" ;;
	repair) echo "--apply --force --json --all --state= --quarantine_max= --help" \
		"$_jsonlfsctl_limits $_jsonlfsctl_records" ;;
	metrics) echo "--output= --help" ;;
	reload) echo "--help" ;;
	rotate) echo "--quiet -q --help" ;;
	report) echo "--html= --help" ;;
	status) echo "--json --once --help" ;;
	writers) echo "--json --help" ;;
	watch) echo "--json --count= --help" ;;
	esac
}

# The words after = are words of their own when = is in COMP_WORDBREAKS, and are not when it
# is not: both are answered.
_jsonlfsctl_value() {
	local option=$1 value=$2 values=''
	case $option in
	--sync) values="close write none" ;;
	--value) values="any container object" ;;
	--oversize) values="warn reject allow" ;;
	--blank) values="drop keep" ;;
	--state | --config | --edited | --as | --output | --html)
		mapfile -t COMPREPLY < <(compgen -f -- "$value")
		return
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$values" -- "$value")
}

_jsonlfsctl() {
	local word=${COMP_WORDS[COMP_CWORD]} before='' command='' actions='' i
	((COMP_CWORD)) && before=${COMP_WORDS[COMP_CWORD - 1]}
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] || {
			command=${COMP_WORDS[i]}
			break
		}
	done
	COMPREPLY=()
	if [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "append archive check config delete-record edit
			metrics quarantine reap reload repair replace report rotate status watch writers help
			--help --version" -- "$word")
		return
	fi
	if [[ $word == --*=* ]]; then
		_jsonlfsctl_value "${word%%=*}" "${word#*=}"
		return
	elif [[ $word == = ]]; then
		_jsonlfsctl_value "$before" ""
		return
	elif [[ $before == = ]]; then
		_jsonlfsctl_value "${COMP_WORDS[COMP_CWORD - 2]}" "$word"
		return
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_jsonlfsctl_options "$command")" -- "$word")
		[[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
		return
	fi
	case $command in
	archive) actions="list restore drop" ;;
	config) actions="check" ;;
	quarantine) actions="list show restore drop" ;;
	esac
	if [[ -n $actions ]] && ((i + 1 == COMP_CWORD)); then
		mapfile -t COMPREPLY < <(compgen -W "$actions" -- "$word")
	elif [[ $command == @(quarantine|archive) ]] && ((COMP_CWORD >= i + 3)); then
		mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" "$command" list --json \
			"${COMP_WORDS[i + 2]}" 2>/dev/null |
			sed -n 's/^ *"file": "\(.*\)",$/\1/p')" -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		compopt -o filenames 2>/dev/null
	fi
	return 0
}

complete -F _jsonlfsctl jsonlfsctl
