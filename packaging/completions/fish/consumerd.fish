complete -c consumerd -f
complete -c consumerd -l config -r -F -d 'The configuration file'
complete -c consumerd -l check -d 'Check the configuration and exit'
complete -c consumerd -l log-level -x -a 'error warn info debug trace' -d 'Log lines of this level and above'
complete -c consumerd -l log-target -x -a 'auto syslog stderr' -d 'Where log lines go'
complete -c consumerd -s h -l help -d 'Print help'
complete -c consumerd -s V -l version -d 'Print version'
