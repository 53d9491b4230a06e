# SPDX-License-Identifier: MIT
# fish completion for jsonlfsctl(1).

set -l commands append archive check config delete-record edit metrics quarantine reap reload repair \
    replace report rotate status watch writers help
set -l first "not __fish_seen_subcommand_from $commands"

complete -c jsonlfsctl -n "$first" -f
complete -c jsonlfsctl -n "$first" -a append -d 'append records to a file'
complete -c jsonlfsctl -n "$first" -a archive -d 'files that were removed, replaced or repaired'
complete -c jsonlfsctl -n "$first" -a check -d 'tell what is damaged'
complete -c jsonlfsctl -n "$first" -a config -d 'what a configuration file makes of a path'
complete -c jsonlfsctl -n "$first" -a delete-record -d 'take lines out of a log'
complete -c jsonlfsctl -n "$first" -a edit -d 'change a log by hand'
complete -c jsonlfsctl -n "$first" -a replace -d 'give a log new content'
complete -c jsonlfsctl -n "$first" -a metrics -d 'for Prometheus'
complete -c jsonlfsctl -n "$first" -a quarantine -d 'what was set aside'
complete -c jsonlfsctl -n "$first" -a reap -d 'delete rotated generations'
complete -c jsonlfsctl -n "$first" -a reload -d 'read the configuration file again'
complete -c jsonlfsctl -n "$first" -a repair -d 'take out what is no record'
complete -c jsonlfsctl -n "$first" -a report -d 'one page about a vault'
complete -c jsonlfsctl -n "$first" -a rotate -d 'begin a new log'
complete -c jsonlfsctl -n "$first" -a status -d 'what a mount has done'
complete -c jsonlfsctl -n "$first" -a watch -d 'what happens in a mount'
complete -c jsonlfsctl -n "$first" -a writers -d 'which program appends to which file'
complete -c jsonlfsctl -n "$first" -a help -d 'explain a command'
complete -c jsonlfsctl -n "$first" -l version -d 'print the version'
complete -c jsonlfsctl -l help -d 'tell how it is used'

function __jsonlfsctl_in
    __fish_seen_subcommand_from $argv
end

complete -c jsonlfsctl -n '__jsonlfsctl_in append' -l sync -x -a 'close write none'
complete -c jsonlfsctl -n '__jsonlfsctl_in append' -l text-as -x -d 'the lines are plain text'

complete -c jsonlfsctl -n '__jsonlfsctl_in archive check config quarantine repair status watch writers' \
    -l json -d 'one document'
complete -c jsonlfsctl -n '__jsonlfsctl_in archive delete-record edit quarantine repair replace' -l state -r \
    -d 'state directory'
complete -c jsonlfsctl -n '__jsonlfsctl_in check repair' -l all -d 'tell everything'
complete -c jsonlfsctl -n '__jsonlfsctl_in replace' -l empty -d 'may have no record'
complete -c jsonlfsctl -n '__jsonlfsctl_in delete-record' -l line -x -d 'line that is to go'
complete -c jsonlfsctl -n '__jsonlfsctl_in check' -l jobs -x -d 'threads'
complete -c jsonlfsctl -n '__jsonlfsctl_in check metrics' -l output -r -d 'file for the report'
complete -c jsonlfsctl -n '__jsonlfsctl_in report' -l html -r -d 'file for the page'
complete -c jsonlfsctl -n '__jsonlfsctl_in status' -l once -d 'print it once'
complete -c jsonlfsctl -n '__jsonlfsctl_in repair' -l apply -d 'do it'
complete -c jsonlfsctl -n '__jsonlfsctl_in repair' -l force -d 'whatever it looks like'
complete -c jsonlfsctl -n '__jsonlfsctl_in repair' -l quarantine_max -x
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit reap repair replace' -l match -x -d globs
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit reap repair replace' -l exclude -x -d globs
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit reap repair replace' -l generations -x -d globs
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine reap repair replace' -l config -r
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine repair replace' -l maxdepth -x
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine repair replace' -l maxrecord -x
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine repair replace' -l pipebuf -x
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine repair replace' -l value -x \
    -a 'any container object'
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine repair replace' -l oversize -x \
    -a 'warn reject allow'
complete -c jsonlfsctl -n '__jsonlfsctl_in check delete-record edit quarantine repair replace' -l blank -x -a 'drop keep'

complete -c jsonlfsctl -n '__jsonlfsctl_in config' -a check
complete -c jsonlfsctl -n '__jsonlfsctl_in config' -s o -x -d 'options of the mount'

complete -c jsonlfsctl -n '__jsonlfsctl_in quarantine' -a 'list show restore drop'
complete -c jsonlfsctl -n '__jsonlfsctl_in quarantine' -l edited -r
complete -c jsonlfsctl -n '__jsonlfsctl_in quarantine' -l again
complete -c jsonlfsctl -n '__jsonlfsctl_in archive' -a 'list restore drop'
complete -c jsonlfsctl -n '__jsonlfsctl_in archive' -l as -r -d 'restore to this path'
complete -c jsonlfsctl -n '__jsonlfsctl_in archive quarantine' -l all -d 'drop all of them'
complete -c jsonlfsctl -n '__jsonlfsctl_in archive quarantine' -l older-than -x -d 'drop by age, as 30d'
complete -c jsonlfsctl -n '__jsonlfsctl_in archive quarantine' -l owner -x -a '(__fish_complete_users)'
complete -c jsonlfsctl -n '__jsonlfsctl_in watch' -l count -x -d 'end after so many'

complete -c jsonlfsctl -n '__jsonlfsctl_in reap' -l keep -x -d 'newest to keep'
complete -c jsonlfsctl -n '__jsonlfsctl_in reap' -l older-than -x -d 'age, as 30d'
complete -c jsonlfsctl -n '__jsonlfsctl_in reap' -s n -l dry-run -d 'only tell'
complete -c jsonlfsctl -n '__jsonlfsctl_in rotate' -s q -l quiet -d 'print errors only'
