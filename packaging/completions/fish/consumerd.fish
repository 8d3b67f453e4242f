complete -c consumerd -l config -d 'The configuration file' -r -F
complete -c consumerd -l log-level -d 'Log lines of this level and above, whatever the file says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c consumerd -l log-target -d 'Where log lines go, whatever the file says; auto is syslog under systemd, else stderr' -r -f -a "auto\t''
syslog\t''
stderr\t''"
complete -c consumerd -l check -d 'Check the configuration and exit: silent and 0, or 78 with one line for each problem; offline, and no secret is opened'
complete -c consumerd -s h -l help -d 'Print help'
complete -c consumerd -s V -l version -d 'Print version'
