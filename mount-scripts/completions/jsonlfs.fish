# SPDX-License-Identifier: MIT
# fish completion for jsonlfs(8): its options as it lists them.

function __jsonlfs_options
    set -l before (string replace -r '[^,]*$' '' -- (commandline -ct))
    jsonlfs -h 2>/dev/null | string match -r '^    -o .*' | while read -l line
        set -l names (string match -r '^ +-o ((?:[^ ,]+, )*[^ ,]+) +(.*)' -- $line)
        set -l values (string match -r '\[([a-z, -]+)\] \(default' -- $line)
        for name in (string split ', ' -- (string trim -- $names[2]))
            if string match -q '*=*' -- $name
                set -l key (string replace -r '=.*' '=' -- $name)
                printf '%s%s\t%s\n' "$before" $key $names[3]
                for value in (string split ', ' -- $values[2])
                    printf '%s%s%s\n' "$before" $key $value
                end
            else
                printf '%s%s\t%s\n' "$before" $name $names[3]
            end
        end
    end
end

complete -c jsonlfs -s o -x -a '(__jsonlfs_options)' -d 'options of the mount'
complete -c jsonlfs -s f -d 'stay in the foreground'
complete -c jsonlfs -s d -d 'as -f, and show every request'
complete -c jsonlfs -s s -d 'one worker thread'
complete -c jsonlfs -s h -l help -d 'tell how it is used'
complete -c jsonlfs -s V -l version -d 'print the version'
