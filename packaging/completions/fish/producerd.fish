complete -c producerd -f
complete -c producerd -l config -r -F -d 'The configuration file'
complete -c producerd -l check -d 'Check the configuration and exit'
complete -c producerd -l log-level -x -a 'error warn info debug trace' -d 'Log lines of this level and above'
complete -c producerd -l log-target -x -a 'auto syslog stderr' -d 'Where log lines go'
complete -c producerd -s h -l help -d 'Print help'
complete -c producerd -s V -l version -d 'Print version'
complete -c producerd -l dry-run -d 'Fetch each watched symbol once, print its record, and exit'
complete -c producerd -n __fish_use_subcommand -a markets -d 'List the market codes that an exchange offers'
complete -c producerd -n '__fish_seen_subcommand_from markets' -a bithumb
