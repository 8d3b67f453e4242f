# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_consumerd_global_optspecs
    string join \n config= check log-level= log-target= h/help V/version
end

function __fish_consumerd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_consumerd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_consumerd_using_subcommand
    set -l cmd (__fish_consumerd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c consumerd -n "__fish_consumerd_needs_command" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_needs_command" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_needs_command" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_needs_command" -l check -d 'Check the configuration and exit: silent and 0, or 78 with one line for each problem; offline, and no secret is opened'
complete -c consumerd -n "__fish_consumerd_needs_command" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_needs_command" -s V -l version -d 'Print version'
complete -c consumerd -n "__fish_consumerd_needs_command" -f -a "offsets" -d 'Show and set how far each partition is stored'
complete -c consumerd -n "__fish_consumerd_needs_command" -f -a "dead-letters" -d 'Look at records that could not be stored, and try again'
complete -c consumerd -n "__fish_consumerd_needs_command" -f -a "verify" -d 'Compare topic and table, record by record, up to what is stored now: 0 if equal, 1 if not, 3 if they cannot be compared'
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and not __fish_seen_subcommand_from show reset" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and not __fish_seen_subcommand_from show reset" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and not __fish_seen_subcommand_from show reset" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and not __fish_seen_subcommand_from show reset" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and not __fish_seen_subcommand_from show reset" -f -a "show" -d 'List the partitions with their positions in the database and what Kafka holds'
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and not __fish_seen_subcommand_from show reset" -f -a "reset" -d 'Set the position of a partition; the daemon goes on from there within seconds'
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from show" -l source -d 'The table [source.NAME] of the configuration file' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from show" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from show" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from show" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l source -d 'The table [source.NAME] of the configuration file' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l topic -d 'The topic' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l partition -d 'The number of the partition' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l to -d 'earliest, latest, or the offset of the next record to be stored' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l reason -d 'Why; it is kept in the table offset_event' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -l force -d 'Also where records are stored already: they are stored again, in a new generation'
complete -c consumerd -n "__fish_consumerd_using_subcommand offsets; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -f -a "list" -d 'List the records that could not be stored, the newest last'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -f -a "show" -d 'Show all that is kept of a record that could not be stored'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -f -a "retry" -d 'Store records now that could not be stored, as if they had been stored then; 1 if one is not, or not known to be'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and not __fish_seen_subcommand_from list show retry accept" -f -a "accept" -d 'Let a held partition go on: records with the cause it is held for become dead letters until one is stored again; 1 if it is not held'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from list" -l limit -d 'At most so many, the newest ones' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from list" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from list" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from list" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from list" -l all -d 'Also those that a retry has stored'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from show" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from show" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from show" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from retry" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from retry" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from retry" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from retry" -l all -d 'All that are not stored yet'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -l source -d 'The table [source.NAME] of the configuration file' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -l topic -d 'The topic' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -l partition -d 'The number of the partition' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand dead-letters; and __fish_seen_subcommand_from accept" -s h -l help -d 'Print help'
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l source -d 'Only this source of the file' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l topic -d 'Only this topic' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l from -d 'Only books received at this time or later, such as 2026-11-23T10:00:00Z or 2026-11-23' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l to -d 'Only books received before this time' -r
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l config -d 'The configuration file' -r -F
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -n "__fish_consumerd_using_subcommand verify" -s h -l help -d 'Print help'
